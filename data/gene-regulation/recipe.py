"""Gene regulation out of DASH's repository, cut small: yeast's network, bone-marrow cells, motifs and ChIP-seq."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._wheels import pinned_file

COMMIT = "2365bd1f4654b63bbc399700dd6897c32c029e2a"
ADDRESS = f"https://raw.githubusercontent.com/QuackenbushLab/DASH/{COMMIT}"
FILES = {
    "yeast": (
        "ground_truth_simulator/clean_data/edge_prior_matrix_simu_350_noise_0.0.csv",
        "201911f021dc3d8beba08462f5c0a6fd4cf10749a44527ef6efd76175b7992a5",
    ),
    "motif": (
        "hema_data/clean_data/edge_prior_matrix_hema_529.csv",
        "5f4c2d42ae0fc0a86685006e866f6d9b4b57707b46c6cdae48af99bf56bbeee8",
    ),
    "genes": (
        "hema_data/clean_data/hema_gene_names_529.csv",
        "b85443ebee8d6ee796110d1a68089d99d9815a7b9b779fe33b04b59be2b3ece9",
    ),
    "chip": (
        "breast_cancer_data/clean_data/otter_chip_val_clean.csv",
        "156f3aeebb603172aad959e32e3804c5bd9744046440a2750f763ac220f9e9b6",
    ),
    "b_train": (
        "hema_data/clean_data/hema_B_529genes_2samples.csv",
        "bedc0e05475ee821ec6b11bf5d3b0cf5c497963ad8ca31fb54adec8361ddc7fb",
    ),
    "b_test": (
        "hema_data/clean_data/hema_B_529genes_3testsamples.csv",
        "0e7885389687d7ee1ef54ea54c106079c009c1e0476261fe0dd1f95b9bdf0f81",
    ),
    "mono": (
        "hema_data/clean_data/hema_mono_529genes_2samples.csv",
        "1bf2d681e131c97f7ab8d512ad7c1f0b248123a025128c20d5e267f6ed71960b",
    ),
}
WINDOWS, SHARE, LEAST = 12, 0.2, 300  # windows of cells, the share of cells in one, cells of a sample


@recipe("gene-regulation")
def make(folder: Path) -> None:
    """Write networks and binned cells as npz; needs the network once."""
    write_arrays(
        folder / "gene-regulation.npz",
        read({k: pinned_file(f"{ADDRESS}/{p}", d).decode() for k, (p, d) in FILES.items()}),
    )


def read(texts: dict[str, str]) -> dict[str, np.ndarray]:
    """The arrays of the files' texts."""
    yeast, motif = (np.loadtxt(io.StringIO(texts[key]), delimiter=",").astype(np.int8) for key in ("yeast", "motif"))
    genes = [line.strip().strip('"') for line in texts["genes"].splitlines()[1:]]
    place = {gene: i for i, gene in enumerate(genes)}
    chip, measured = np.zeros_like(motif), np.zeros(len(genes), dtype=np.int8)
    for regulator, target in list(csv.reader(io.StringIO(texts["chip"])))[1:]:
        if regulator in place:
            measured[place[regulator]] = 1
            if target in place:
                chip[place[regulator], place[target]] = 1
    names = np.zeros((len(genes), max(map(len, genes))), dtype=np.uint8)
    for row, gene in zip(names, genes):
        row[: len(gene)] = list(gene.encode())
    found = {"yeast": yeast, "motif": motif, "chip": chip, "chip_measured": measured, "genes": names}
    cells = {"b": samples(texts["b_train"]) + samples(texts["b_test"]), "mono": samples(texts["mono"])}
    for key, kept in cells.items():
        kept = [table for table in kept if table.shape[1] >= LEAST]
        found[key] = np.float32([windows(table) for table in kept])
        found[f"{key}_cells"] = np.int32([table.shape[1] for table in kept])
    return found


def samples(text: str) -> list[np.ndarray]:
    """Each sample's cells, (genes, cells), in the order of their pseudotime."""
    (genes, count, *_), *rows = csv.reader(io.StringIO(text))
    table = np.array([[float(v) if v else np.nan for v in row] for row in rows])
    found = []
    for sample in table.reshape(int(count), int(genes) + 1, -1):  # the last row of each holds the times
        cells = np.nan_to_num(sample[:, np.isfinite(sample[-1])])
        found.append(cells[:-1, np.argsort(cells[-1], kind="stable")])
    return found


def windows(cells: np.ndarray) -> np.ndarray:
    """Mean expression in overlapping windows along the order, over the sample's mean: (windows, genes)."""
    width = int(SHARE * cells.shape[1])
    starts = np.linspace(0, cells.shape[1] - width, WINDOWS).round().astype(int)
    return np.array([cells[:, start : start + width].mean(1) for start in starts]) / cells.mean()

"""The shipped snippets: sentences rated by twenty people each, from three domains, and MiniLM's vectors of them."""

from __future__ import annotations

import gzip
import html
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from shared.compendium.paths import DATA, atomic_path, sha256
from shared.zoo._assets import AssetError

SOURCE = "vaderSentiment==3.3.2"
SOURCE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
FILES = {"film": "movieReviewSnippets", "product": "amazonReviewSnippets", "tweet": "tweets"}
FILMS = 5000  # of some 10,000, drawn by SEED; the other domains whole
NEUTRAL = 0.5  # |mean rating| up to this is left out
SEED = 0
DIMENSIONS = 96


def make_snippets(archive: Path | None = None, target: Path = DATA / "snippets.jsonl.gz") -> None:
    """Write text, domain and mean rating (−4 … 4) of each clearly rated sentence, in shuffled order.

    `archive` is the source distribution of `SOURCE`; without it pip fetches it. `AssetError` if its digest differs.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = archive or _download(Path(folder))
        if sha256(archive) != SOURCE_SHA256:
            raise AssetError(f"{archive.name} hasn't the sha256 it should have; get {SOURCE} anew")
        rows = _read(archive)
    rng = np.random.default_rng(SEED)
    films = [r for r in rows if r["domain"] == "film"]
    kept = [films[i] for i in rng.choice(len(films), FILMS, replace=False)]
    kept += [r for r in rows if r["domain"] != "film"]
    lines = [json.dumps(kept[i], ensure_ascii=False) for i in rng.permutation(len(kept))]
    with atomic_path(target) as path, open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as out:
        out.write(("\n".join(lines) + "\n").encode())


def make_snippet_vectors(target: Path = DATA / "snippets-minilm.npz") -> None:
    """Write the snippets' sentence vectors on their first principal axes, as whole numbers of −127 … 127.

    `vectors` (N, 96) int8 times `scale` is the projection; `mean` (384,) and `axes` (96, 384) give it for other texts.
    """
    from shared.zoo import embed_texts, load_data, load_model

    full = embed_texts(load_model("minilm-l6"), load_data("snippets").x["text"]).double().numpy()
    mean = full.mean(0)
    _, directions = np.linalg.eigh(np.cov((full - mean).T))
    axes = directions[:, ::-1][:, :DIMENSIONS].T
    axes *= np.sign(axes[np.arange(DIMENSIONS), np.abs(axes).argmax(1)])[:, None]
    projected = (full - mean) @ axes.T
    scale = np.abs(projected).max() / 127
    with atomic_path(target) as path:
        np.savez_compressed(
            path,
            vectors=np.rint(projected / scale).astype(np.int8),
            scale=np.float32(scale),
            mean=mean.astype(np.float32),
            axes=axes.astype(np.float16),
        )


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", SOURCE]
    if subprocess.run([*command, "--dest", str(folder)], capture_output=True).returncode:
        raise AssetError(f"pip could not download the source distribution of {SOURCE}")
    return next(folder.glob("*.tar.gz"))


def _read(archive: Path) -> list[dict]:
    with tarfile.open(archive) as outer:
        member = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
        inner = io.BytesIO(outer.extractfile(member).read())
    rows = []
    with tarfile.open(fileobj=inner) as files:
        for domain, name in FILES.items():
            text = files.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("utf-8")
            for line in text.splitlines():
                if not line.strip():
                    continue
                _, rating, sentence = line.split("\t")
                rating = float(rating)
                if abs(rating) > NEUTRAL:
                    rows.append({"text": html.unescape(sentence.strip()), "domain": domain, "rating": round(rating, 2)})
    return rows

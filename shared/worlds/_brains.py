"""Simulated R2* maps of patients and controls on real brains: where the groups differ is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared._checks import check_range

_SIDE = """
    bankssts caudalanteriorcingulate caudalmiddlefrontal cuneus entorhinal fusiform inferiorparietal
    inferiortemporal isthmuscingulate lateraloccipital lateralorbitofrontal lingual medialorbitofrontal
    middletemporal parahippocampal paracentral parsopercularis parsorbitalis parstriangularis pericalcarine
    postcentral posteriorcingulate precentral precuneus rostralanteriorcingulate rostralmiddlefrontal
    superiorfrontal superiorparietal superiortemporal supramarginal frontalpole temporalpole transversetemporal
    insula thalamusproper caudate putamen pallidum accumbensarea hippocampus amygdala
""".split()
BRAIN_REGIONS = (
    *("outside", *(f"{name} L" for name in _SIDE), *(f"{name} R" for name in _SIDE)),
    *("brainstem B", "white matter", "fluid"),
)  # by number: the Desikan–Killiany atlas with FreeSurfer's subcortical regions
R2STAR = {
    **{"outside": 0.0, "white matter": 21.0, "fluid": 3.0, "brainstem": 20.0, "thalamusproper": 20.0},
    **{"caudate": 24.0, "putamen": 26.0, "pallidum": 36.0, "accumbensarea": 22.0},
}  # s⁻¹, rounded values at 3 T; every other region is cortex, hippocampus or amygdala
CORTEX = 16.0
AGEING = ("caudate", "putamen", "pallidum")  # whose iron rises with age, by 0.08 s⁻¹ a year


@dataclass(frozen=True)
class BrainCohort:
    """Simulated subjects.

    Attributes
    ----------
    volumes : R2* in s⁻¹, `(n, 1, D, H, W)`, ≥ 0.
    y : 1 for patients, `(n,)` int64.
    regions : region number of every voxel, as deformed, `(n, D, H, W)` uint8; 0 is outside of the brain.
    """

    volumes: Tensor
    y: Tensor
    regions: Tensor


def brain_cohort(
    labels: Tensor,
    *,
    n: int,
    effects: Mapping[str, float],
    names: Sequence[str] = BRAIN_REGIONS,
    patients: float = 0.35,
    noise: float = 2.0,
    generator: torch.Generator,
) -> BrainCohort:
    """Subjects with the anatomy of one of the brains each, smoothly deformed, whose patients differ in some regions.

    R2* is a value per tissue plus a subject's deviation in each region (standard deviation 1 s⁻¹), a rise with age in
    the basal ganglia and a scale per subject (5 %); then comes noise. Both groups have the same ages. Outside of the
    brain R2* is 0, as if the skull had been stripped.

    Parameters
    ----------
    labels : region numbers `(anatomies, D, H, W)`, integers; 0 is outside.
    n : subjects.
    effects : region without its hemisphere -> what patients have more, in s⁻¹ (standard deviation 1 between patients).
    names : of the regions by number, with or without a last word for the hemisphere ("putamen L").
    patients : their share.
    noise : standard deviation per voxel, in s⁻¹.
    generator : torch's.

    Returns
    -------
    `BrainCohort`.

    Raises
    ------
    ValueError
        Labels without a name, an effect in an unknown region, shares outside [0, 1].
    """
    _check(labels, names, n, effects, patients, noise)
    y = (torch.arange(n) < round(patients * n)).long()[torch.randperm(n, generator=generator)]
    anatomy = labels[torch.randint(len(labels), (n,), generator=generator)]
    values = _values(names, effects, y, generator)
    maps = values.gather(1, anatomy.flatten(1).long()).view(n, 1, *labels.shape[1:])
    where = _deformed(n, labels.shape[1:], generator)
    maps = F.grid_sample(maps, where, align_corners=False)
    regions = F.grid_sample(anatomy[:, None].float(), where, mode="nearest", align_corners=False)[:, 0].to(torch.uint8)
    maps = maps + noise * torch.randn(maps.shape, generator=generator)
    return BrainCohort(maps.clamp(min=0) * (regions > 0)[:, None], y, regions)


def _values(names: Sequence[str], effects: Mapping[str, float], y: Tensor, generator: torch.Generator) -> Tensor:
    """R2* of every subject's regions, `(n, regions)`."""
    bare = [_bare(name) for name in names]
    base = torch.tensor([R2STAR.get(name, CORTEX) for name in bare])
    ageing = torch.tensor([0.08 * (name in AGEING) for name in bare])
    added = torch.tensor([float(effects.get(name, 0.0)) for name in bare])
    draw = torch.randn(len(y), len(bare) + 3, generator=generator)
    age, scale, severity, own = 7.5 * draw[:, :1], 1 + 0.05 * draw[:, 1:2], draw[:, 2:3], draw[:, 3:]
    group = y[:, None] * (added + severity * (added != 0))
    return ((base + ageing * age + own + group) * scale).clamp(min=0) * (base > 0)


def _deformed(n: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Sampling points `(n, D, H, W, 3)`: the grid, scaled and turned a little, and shifted smoothly by 0.7 voxels."""
    affine = torch.eye(3, 4).repeat(n, 1, 1) + 0.02 * torch.randn(n, 3, 4, generator=generator)
    grid = F.affine_grid(affine, [n, 1, *shape], align_corners=False)
    coarse = torch.randn(n, 3, 5, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, tuple(shape), mode="trilinear", align_corners=True)
    size = torch.tensor([shape[2], shape[1], shape[0]])
    return grid + (1.4 * smooth / smooth.std() / size.view(1, 3, 1, 1, 1)).permute(0, 2, 3, 4, 1)


def _bare(name: str) -> str:
    """Without the hemisphere."""
    first, _, last = name.rpartition(" ")
    return first if last in ("L", "R", "B") else name


def _check(
    labels: Tensor,
    names: Sequence[str],
    n: int,
    effects: Mapping[str, float],
    patients: float,
    noise: float,
) -> None:
    whole = isinstance(labels, Tensor) and labels.ndim == 4 and not labels.is_floating_point() and labels.numel()
    if not whole or int(labels.min()) < 0 or int(labels.max()) >= len(names):
        got = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"labels must be integers (anatomies, D, H, W) from 0 to {len(names) - 1}, one per name; got {got}"
        )
    unknown = sorted(set(effects) - {_bare(name) for name in names})
    if unknown:
        raise ValueError(f"effects names {unknown}, which is no region of names")
    check_range("n", n, 2)
    check_range("patients", patients, 0, 1)
    check_range("noise", noise, 0)

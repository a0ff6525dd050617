"""The widest floating type a device computes in."""

from __future__ import annotations

import torch


def wide_dtype(device: torch.device | str) -> torch.dtype:
    """What sums, ranks and decompositions are computed in.

    Parameters
    ----------
    device : where the numbers are.

    Returns
    -------
    float64; float32 on Apple's MPS, which has no float64.
    """
    return torch.float32 if torch.device(device).type == "mps" else torch.float64

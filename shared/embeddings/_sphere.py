"""Geometry of the unit sphere S²: tangents, exponential map, coordinates, rotations. Points are unit vectors (…, 3)."""

from __future__ import annotations

import numpy as np
import torch

from shared._checks import check_array, check_finite


def check_unit(argument: str, Y: np.ndarray) -> None:
    """`ValueError` unless the rows of Y (n, d) have length 1 to 1e-4."""
    off = np.abs(np.linalg.norm(Y, axis=1) - 1).max()
    if off > 1e-4:
        raise ValueError(f"{argument} must hold unit vectors; lengths are off by up to {off:.3g}")


def project(Y: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """The part of V (n, 3) tangent to the sphere at Y (n, 3)."""
    return V - (V * Y).sum(-1, keepdim=True) * Y


def retract(Y: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """Step from Y along the tangent V and back to the sphere by normalising: the exponential map to second order."""
    return torch.nn.functional.normalize(Y + V, dim=-1)


def exp_map(Y: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """The point at arc length |V| from Y along the great circle in direction V (tangent)."""
    if Y.shape[-1:] != (3,):
        raise ValueError(f"Y has shape {tuple(Y.shape)}; expected (…, 3)")
    check_finite("Y", Y)
    check_array("V", V, tuple(Y.shape))
    length = V.norm(dim=-1, keepdim=True)
    return torch.cos(length) * Y + torch.sinc(length / torch.pi) * V


def tangents(Y: torch.Tensor, eps: float = 1e-12) -> torch.Tensor:
    """Unit tangents t_ij at y_i towards y_j: (n, n, 3), zero where there is none (coincident or antipodal points).

    Source: Mercat (Fischer & Ma 2024): t_ij = y_j - (y_i·y_j) y_i, normalised.
    """
    T = Y[None] - (Y @ Y.T)[..., None] * Y[:, None]
    return T / (T.square().sum(-1, keepdim=True) + eps).sqrt()


def from_lonlat(lonlat: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) at longitude and latitude (n, 2) in radians."""
    lonlat = np.asarray(lonlat)
    check_array("lonlat", lonlat, ("n", 2))
    lon, lat = lonlat.T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)


def to_lonlat(Y: np.ndarray) -> np.ndarray:
    """Longitude in (-π, π] and latitude in [-π/2, π/2] of unit vectors (n, 3): (n, 2) in radians."""
    Y = np.asarray(Y, dtype=np.float64)
    check_array("Y", Y, ("n", 3))
    check_unit("Y", Y)
    return np.stack([np.arctan2(Y[:, 1], Y[:, 0]), np.arcsin(np.clip(Y[:, 2], -1, 1))], 1)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix (3, 3), uniform over all of them."""
    Q, R = np.linalg.qr(rng.standard_normal((3, 3)))
    Q = Q * np.sign(np.diagonal(R))
    return Q if np.linalg.det(Q) > 0 else Q[:, [1, 0, 2]]


def align(Y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Y turned (or mirrored) onto `reference`, both (n, 3), as near as an orthogonal map can (Procrustes)."""
    Y, reference = np.asarray(Y), np.asarray(reference)
    check_array("Y", Y, ("n", 3))
    check_array("reference", reference, Y.shape)
    U, _, Vt = np.linalg.svd(Y.T @ reference)
    return Y @ U @ Vt


def face_on(Y: np.ndarray) -> np.ndarray:
    """Y (n, 3) turned for drawing: mean direction at longitude and latitude 0, widest spread along the equator."""
    Y = np.asarray(Y, dtype=np.float64)
    check_array("Y", Y, ("n", 3))
    centre = Y.mean(0)
    x = centre / max(np.linalg.norm(centre), 1e-12)
    flat = Y - (Y @ x)[:, None] * x
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    y = axes[0] - (axes[0] @ x) * x
    y /= np.linalg.norm(y)
    return Y @ np.stack([x, y, np.cross(x, y)], 1)

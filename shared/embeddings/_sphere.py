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


def project_to_tangent(Y: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """The part of a vector that is tangent to the sphere.

    Parameters
    ----------
    Y : (n, 3) tensor
        Unit vectors.
    V : (n, 3) tensor
        A vector at each.

    Returns
    -------
    (n, 3) tensor
        Orthogonal to Y, row by row.
    """
    return V - (V * Y).sum(-1, keepdim=True) * Y


def retract(Y: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """Step along a tangent and back to the sphere by normalising: the exponential map to second order.

    Parameters
    ----------
    Y : (n, 3) tensor
        Unit vectors.
    V : (n, 3) tensor
        A tangent at each.

    Returns
    -------
    (n, 3) tensor
        Unit vectors.
    """
    return torch.nn.functional.normalize(Y + V, dim=-1)


def exp_map(Y: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """The point at arc length |V| along the great circle in direction V.

    Parameters
    ----------
    Y : (..., 3) tensor
        Unit vectors.
    V : (..., 3) tensor
        A tangent at each, its length in radians.

    Returns
    -------
    (..., 3) tensor
        Unit vectors.
    """
    if Y.shape[-1:] != (3,):
        raise ValueError(f"Y has shape {tuple(Y.shape)}; expected (…, 3)")
    check_finite("Y", Y)
    check_array("V", V, tuple(Y.shape))
    length = V.norm(dim=-1, keepdim=True)
    return torch.cos(length) * Y + torch.sinc(length / torch.pi) * V


def pairwise_tangents(Y: torch.Tensor, *, eps: float = 1e-12) -> torch.Tensor:
    """Unit tangents at each point towards each other: t_ij = y_j - (y_i·y_j) y_i, normalised.

    Source: Mercat (Fischer & Ma 2024).

    Parameters
    ----------
    Y : (n, 3) tensor
        Unit vectors.
    eps : float
        Added to squared lengths.

    Returns
    -------
    (n, n, 3) tensor
        Zero where there is none (coincident or antipodal points).
    """
    T = Y[None] - (Y @ Y.T)[..., None] * Y[:, None]
    return T / (T.square().sum(-1, keepdim=True) + eps).sqrt()


def from_lonlat(lonlat: np.ndarray) -> np.ndarray:
    """Unit vectors at given longitudes and latitudes.

    Parameters
    ----------
    lonlat : (n, 2) array
        In radians.

    Returns
    -------
    (n, 3) array
        Unit vectors.
    """
    lonlat = np.asarray(lonlat)
    check_array("lonlat", lonlat, ("n", 2))
    lon, lat = lonlat.T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)


def to_lonlat(Y: np.ndarray) -> np.ndarray:
    """Longitude in (-π, π] and latitude in [-π/2, π/2] of unit vectors.

    Parameters
    ----------
    Y : (n, 3) array
        Unit vectors.

    Returns
    -------
    (n, 2) float64
        In radians.
    """
    Y = np.asarray(Y, dtype=np.float64)
    check_array("Y", Y, ("n", 3))
    check_unit("Y", Y)
    return np.stack([np.arctan2(Y[:, 1], Y[:, 0]), np.arcsin(np.clip(Y[:, 2], -1, 1))], 1)


def random_rotation(*, generator: np.random.Generator) -> np.ndarray:
    """A rotation matrix, uniform over all of them.

    Parameters
    ----------
    generator : numpy.random.Generator
        Draws it.

    Returns
    -------
    (3, 3) float64
        Orthogonal, determinant 1.
    """
    Q, R = np.linalg.qr(generator.standard_normal((3, 3)))
    Q = Q * np.sign(np.diagonal(R))
    return Q if np.linalg.det(Q) > 0 else Q[:, [1, 0, 2]]


def procrustes_align(Y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Turn (or mirror) points onto others as near as an orthogonal map can.

    Parameters
    ----------
    Y, reference : (n, 3) arrays
        What is turned, and onto what.

    Returns
    -------
    (n, 3) array
        Y, turned.
    """
    Y = np.asarray(Y)
    reference = np.asarray(reference)
    check_array("Y", Y, ("n", 3))
    check_array("reference", reference, Y.shape)
    U, _, Vt = np.linalg.svd(Y.T @ reference)
    return Y @ U @ Vt


def face_on(Y: np.ndarray) -> np.ndarray:
    """Turn points for drawing: mean direction at longitude and latitude 0, widest spread along the equator.

    Parameters
    ----------
    Y : (n, 3) array
        Unit vectors.

    Returns
    -------
    (n, 3) float64
        Unit vectors.
    """
    Y = np.asarray(Y, dtype=np.float64)
    check_array("Y", Y, ("n", 3))
    centre = Y.mean(0)
    x = centre / max(np.linalg.norm(centre), 1e-12)
    flat = Y - (Y @ x)[:, None] * x
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    y = axes[0] - (axes[0] @ x) * x
    y /= np.linalg.norm(y)
    return Y @ np.stack([x, y, np.cross(x, y)], 1)

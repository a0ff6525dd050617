"""Virtual neurons (PURE): one unit split by the circuits that make it fire, and how pure the parts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from shared._checks import as_numbers, check_array, check_range, check_shape
from shared.stats import pearson


class Purity(NamedTuple):
    """Mean distance of pairs of references.

    Attributes
    ----------
    intra : within a virtual neuron.
    inter : between two of them.
    """

    intra: float
    inter: float

    @property
    def gap(self) -> float:
        """`inter - intra`: 0 for a split at random, the larger the purer."""
        return self.inter - self.intra


@dataclass(frozen=True, eq=False)
class VirtualNeurons:
    """A unit's virtual neurons: clusters of its circuits.

    Attributes
    ----------
    labels : int64 `(N,)`, the references' virtual neuron; their numbers are arbitrary.
    centroids : `(k, C)`, mean circuits.
    """

    labels: Tensor
    centroids: Tensor

    def assign(self, vectors: Tensor) -> Tensor:
        """Virtual neuron of new samples, by the nearest centroid.

        Parameters
        ----------
        vectors : float `(N, C)`, circuits of the same unit.

        Returns
        -------
        int64 `(N,)`.

        Raises
        ------
        ValueError
            NaN, emptiness, another number of columns than the centroids have.
        """
        check_array("vectors", vectors, ("N", self.centroids.shape[1]))
        return torch.cdist(vectors.detach().to(self.centroids), self.centroids).argmin(1)

    def split(self, activations: Tensor, vectors: Tensor) -> Tensor:
        """Activations of the virtual neurons, which add up to the unit's.

        Parameters
        ----------
        activations : float `(N,)` or `(N, …)`, the unit's.
        vectors : as for `assign`.

        Returns
        -------
        `(N, k)` or `(N, k, …)`: the unit's activation at the sample's virtual neuron, 0 at the others.

        Raises
        ------
        ValueError
            Activations of another number of samples, and as for `assign`.
        """
        chosen = torch.nn.functional.one_hot(self.assign(vectors), len(self.centroids))
        if activations.ndim < 1 or len(activations) != len(chosen):
            raise ValueError(f"activations has shape {tuple(activations.shape)}; expected ({len(chosen)}, …)")
        shape = (*chosen.shape, *[1] * (activations.ndim - 1))
        return activations[:, None] * chosen.view(shape).to(activations)


def virtual_neurons(vectors: Tensor, *, k: int = 2, n_init: int = 10, random_state: int = 0) -> VirtualNeurons:
    """Split a unit into virtual neurons: k-means on its circuits (PURE; Dreyer et al. 2024, section 3).

    A circuit is how much each unit of the layer below contributed when the unit fired on one reference sample:
    `channel_relevance(attribute(..., unit, start_layer=..., init="coefficient", record=below).latent[below])` of
    `shared.lrp`. Rivals split by other vectors, such as activations, in the same way.

    Parameters
    ----------
    vectors : float `(N, C)`, one circuit per reference sample, signed.
    k : number of virtual neurons.
    n_init : starts of k-means, of which the best is kept.
    random_state : seed of the starts; the same gives the same labels.

    Returns
    -------
    `VirtualNeurons`, on the vectors' device.

    Raises
    ------
    ValueError
        Fewer references (or different ones) than virtual neurons, rows of zeros (the unit doesn't fire there), NaN.
    """
    check_array("vectors", vectors, ("N", "C"))
    check_range("k", k, 1)
    check_range("n_init", n_init, 1)
    points = as_numbers(vectors)
    empty = int((points == 0).all(1).sum())
    if empty == len(points):
        raise ValueError("vectors are all zero: the unit never fires on these references, so there is nothing to split")
    if empty:
        raise ValueError(f"vectors has {empty} rows of zeros of {len(points)}: the unit doesn't fire there; drop them")
    different = len(np.unique(points, axis=0))
    if different < k:
        raise ValueError(
            f"k={k} virtual neurons of {len(points)} references ({different} different); give at least as many"
        )
    fitted = KMeans(k, n_init=n_init, random_state=random_state).fit(points)
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    centroids = torch.as_tensor(fitted.cluster_centers_, dtype=dtype, device=vectors.device)
    return VirtualNeurons(torch.as_tensor(fitted.labels_, dtype=torch.int64, device=vectors.device), centroids)


def intra_inter(distances: Tensor, labels: Tensor) -> Purity:
    """How pure the parts of a split are, by distances that somebody else judges (Dreyer et al. 2024, section 4).

    All pairs count alike, so large clusters weigh more, as in the authors' code. Where there is no pair of one kind
    (one cluster only, or nothing but singletons) both are the mean of all.

    Parameters
    ----------
    distances : float `(N, N)`, symmetric, such as those of an image encoder's embeddings.
    labels : int `(N,)`.

    Returns
    -------
    `Purity`.

    Raises
    ------
    ValueError
        Distances that aren't square and symmetric, labels of another length, NaN, fewer than two samples.
    """
    pairs = _pairs("distances", distances)
    check_shape("labels", labels, (len(distances),))
    numbers = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    same = (numbers[:, None] == numbers[None])[np.triu_indices(len(numbers), 1)]
    mean = float(pairs.mean())
    if same.all() or not same.any():
        return Purity(mean, mean)
    return Purity(float(pairs[same].mean()), float(pairs[~same].mean()))


def distance_correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation of two distances over all pairs of samples (Dreyer et al. 2024, section 4).

    Pairs at distance zero in either are left out, as in the authors' code: they are the same picture.

    Parameters
    ----------
    first : float `(N, N)`, symmetric.
    second : float `(N, N)`, symmetric.

    Returns
    -------
    A number from -1 to 1.

    Raises
    ------
    ValueError
        Matrices that aren't square, symmetric and equally large, NaN, fewer than three pairs, equal distances only.
    """
    one = _pairs("first", first)
    check_shape("second", second, tuple(first.shape))
    other = _pairs("second", second)
    apart = (one > 0) & (other > 0)
    if apart.sum() < 3:
        raise ValueError(f"first and second have {int(apart.sum())} pairs apart in both; at least 3 are needed")
    for name, values in (("first", one[apart]), ("second", other[apart])):
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            raise ValueError(f"{name} holds equal distances only, which correlate with nothing")
    return float(pearson(one[apart], other[apart]))


def _pairs(name: str, distances: Tensor) -> np.ndarray:
    """The upper triangle of a matrix of distances."""
    check_array(name, distances, ("N", len(distances) if distances.ndim else "N"))
    values = as_numbers(distances)
    if len(values) < 2:
        raise ValueError(f"{name} is of one sample; at least two are needed")
    if (values < 0).any() or np.abs(values - values.T).max() > 1e-3 * max(values.max(), 1e-30):
        raise ValueError(f"{name} must be distances: symmetric and not negative")
    return values[np.triu_indices(len(values), 1)]

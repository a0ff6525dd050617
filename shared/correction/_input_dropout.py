"""Which part of a training input is hidden: where the network looks (RelDrop), or anywhere (random erasing)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from shared._checks import check_array, check_finite, check_range, check_shape

TRIES = 100  # draws of a rectangle until one is smaller than the image, as in the official code


class InputDropout(ABC):
    """Replaces part of each input of a batch by a constant; `occlude` says when, the subclasses where.

    To write another one give `mask`; training asks for nothing else. `needs_relevance` says whether maps must be
    computed, `per_batch` whether all inputs of a batch are chosen together.

    Parameters
    ----------
    p : probability that an input is changed (of a batch, where `per_batch`), in [0, 1].
    fill : what is written: a number, or one per channel, in the units of the (normalised) input.
    """

    needs_relevance = True
    per_batch = False

    def __init__(self, *, p: float, fill: float | Sequence[float] | Tensor = 0.0) -> None:
        check_range("p", p, 0, 1)
        self.p = p
        self.fill = torch.as_tensor(fill, dtype=torch.float32)
        check_finite("fill", self.fill)

    def choose(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Which inputs of a batch are changed.

        Parameters
        ----------
        n : inputs in the batch.
        generator : of the draws.

        Returns
        -------
        (n,) bool; all alike where `per_batch`.
        """
        check_range("n", n, 1)
        drawn = torch.rand(1 if self.per_batch else n, generator=generator) < self.p
        return drawn.expand(n)

    @abstractmethod
    def mask(self, relevance: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Which positions are hidden.

        Parameters
        ----------
        relevance : (B, …), one number per position; for methods without relevance only its shape matters.
        generator : of the draws.

        Returns
        -------
        bool, in the shape of relevance.
        """

    def __call__(
        self, x: Tensor, relevance: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Every input with its hidden positions filled.

        Parameters
        ----------
        x : (B, C, …), finite: images (B, C, H, W) or points (B, C, N).
        relevance : (B, …), x's shape without channels; None where it isn't needed. An input whose map holds NaN or
            infinity stays as it is.
        generator : of the draws.

        Returns
        -------
        A copy of x.
        """
        check_finite("x", x)
        if x.ndim < 3:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, C, …): inputs with channels and positions")
        if relevance is None:
            if self.needs_relevance:
                raise ValueError(f"relevance is None; {type(self).__name__} needs one map per input")
            relevance = x.new_zeros(len(x), *x.shape[2:])
        check_shape("relevance", relevance, (len(x), *x.shape[2:]))
        if self.fill.ndim > 0:
            check_shape("fill", self.fill, (x.shape[1],))
        known = torch.isfinite(relevance).flatten(1).all(1)
        relevance = torch.where(_beside(known, relevance), relevance, 0.0)
        hidden = self.mask(relevance, generator=generator) & _beside(known, relevance)
        fill = self.fill.to(x).reshape(1, -1, *([1] * (x.ndim - 2)))
        return torch.where(hidden[:, None], fill, x)


class RandomErasing(InputDropout):
    """A rectangle of random size, shape and place in each image (Zhong et al. 2020, arXiv 1708.04896).

    Parameters
    ----------
    p : probability that an image is changed.
    area : smallest and largest share of the image.
    aspect : smallest ratio of height to width, in (0, 1]; the largest is its inverse.
    fill : as in `InputDropout`.
    """

    needs_relevance = False

    def __init__(
        self,
        *,
        p: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: float = 0.3,
        fill: float | Sequence[float] | Tensor = 0.0,
    ) -> None:
        super().__init__(p=p, fill=fill)
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"area={area!r} is out of range; accepted: 0 < smallest <= largest <= 1")
        if not 0 < aspect <= 1:
            raise ValueError(f"aspect={aspect!r} is out of range; accepted: (0, 1]")
        self.area, self.aspect = (float(area[0]), float(area[1])), float(aspect)

    def mask(self, relevance: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        check_array("relevance", relevance, ("B", "H", "W"))
        height, width, fits = self._sizes(relevance, generator)
        sides = torch.tensor(relevance.shape[1:])
        free = torch.rand(len(relevance), 2, generator=generator)
        corner = (free * (sides - torch.stack([height, width], 1) + 1)).floor().long()
        return _rectangles(relevance, corner, height, width, fits)

    def _sizes(self, relevance: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Heights and widths (B,) of the first of some draws that fit into the image, and whether one did."""
        n, rows, columns = relevance.shape
        size, fits = torch.zeros(2, n, dtype=torch.long), torch.zeros(n, dtype=torch.bool)
        for _ in range(TRIES):
            share = torch.empty(n).uniform_(*self.area, generator=generator) * rows * columns
            ratio = torch.empty(n).uniform_(math.log(self.aspect), -math.log(self.aspect), generator=generator).exp()
            drawn = torch.stack([share * ratio, share / ratio]).sqrt().round().long()
            fit = (drawn > 0).all(0) & (drawn[0] < rows) & (drawn[1] < columns)
            size = torch.where(fits, size, drawn)
            fits = fits | fit
            if bool(fits.all()):
                break
        return *size, fits


class RelDropBlock(RandomErasing):
    """A rectangle centred on one of the most relevant pixels (RelDrop, Gururaj et al. 2025, arXiv 2505.21595).

    The centre is drawn from the `k_centers` largest entries of the map; sizes as in `RandomErasing`; what lies beyond
    the border is cut off. All images of a batch are changed, or none. (The official code rounds so that a rectangle one
    pixel high or wide may lie beside its centre; from two on it covers it.)

    Parameters
    ----------
    k_centers : number of candidate centres, at least 1.
    p : probability that a batch is changed.
    area : smallest and largest share of the image.
    aspect : smallest ratio of height to width, in (0, 1]; the largest is its inverse.
    fill : as in `InputDropout`.
    """

    needs_relevance = True
    per_batch = True

    def __init__(
        self,
        *,
        k_centers: int = 1,
        p: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: float = 0.3,
        fill: float | Sequence[float] | Tensor = 0.0,
    ) -> None:
        super().__init__(p=p, area=area, aspect=aspect, fill=fill)
        check_range("k_centers", k_centers, 1)
        self.k_centers = k_centers

    def mask(self, relevance: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        check_array("relevance", relevance, ("B", "H", "W"))
        height, width, fits = self._sizes(relevance, generator)
        best = relevance.flatten(1).topk(min(self.k_centers, relevance[0].numel()), dim=1).indices.cpu()
        drawn = torch.randint(best.shape[1], (len(best), 1), generator=generator)
        at = best.gather(1, drawn)[:, 0]
        centre = torch.stack([at // relevance.shape[2], at % relevance.shape[2]], 1)
        corner = (centre - torch.stack([height, width], 1) / 2).round().long()
        return _rectangles(relevance, corner, height, width, fits)


class RelDropPatch(RelDropBlock):
    """`RelDropBlock` with a smaller rectangle: 1/count of its area, at one of the `count` most relevant pixels.

    The official code applies at most one of its `count` patches, and so does this.

    Parameters
    ----------
    count : at least 1.
    p : probability that a batch is changed.
    area : smallest and largest share of the image, before it is divided by count.
    aspect : smallest ratio of height to width, in (0, 1]; the largest is its inverse.
    fill : as in `InputDropout`.
    """

    def __init__(
        self,
        *,
        count: int = 5,
        p: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: float = 0.3,
        fill: float | Sequence[float] | Tensor = 0.0,
    ) -> None:
        check_range("count", count, 1)
        super().__init__(k_centers=count, p=p, area=area, aspect=aspect, fill=fill)
        self.area = (self.area[0] / count, self.area[1] / count)


class RelDropPixel(InputDropout):
    """Single pixels, the more likely the more relevant (RelDrop, Gururaj et al. 2025, arXiv 2505.21595).

    A position is hidden where `alpha · u + (1 − alpha) · r >= 1 − beta`: u uniform in [0, 1), r the map scaled to
    [0, 1] by its own smallest and largest entry (all zero where it is flat).

    Parameters
    ----------
    alpha : 1 is pure chance, which hides the share beta; 0 hides exactly where r >= 1 − beta.
    beta : how much is hidden.
    p : probability that an image is changed.
    fill : as in `InputDropout`.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.5,
        p: float = 0.3,
        fill: float | Sequence[float] | Tensor = 0.0,
    ) -> None:
        super().__init__(p=p, fill=fill)
        check_range("alpha", alpha, 0, 1)
        check_range("beta", beta, 0, 1)
        self.alpha, self.beta = alpha, beta

    def mask(self, relevance: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        check_finite("relevance", relevance)
        if relevance.ndim < 2:
            raise ValueError(f"relevance has shape {tuple(relevance.shape)}; expected (B, …): one map per input")
        low, high = (_beside(end, relevance) for end in relevance.flatten(1).aminmax(dim=1))
        r = torch.where(high - low > 0, (relevance - low) / (high - low), 0.0)
        u = torch.rand(relevance.shape, generator=generator).to(r)
        return self.alpha * u + (1 - self.alpha) * r >= 1 - self.beta


class RelDropPoints(RelDropPixel):
    """`RelDropPixel` for point clouds (B, C, N) with the paper's settings: whole points are hidden, in every batch.

    Parameters
    ----------
    alpha : as in `RelDropPixel`.
    beta : as in `RelDropPixel`.
    p : probability that a cloud is changed.
    fill : as in `InputDropout`; the paper's is the origin.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        p: float = 1.0,
        fill: float | Sequence[float] | Tensor = 0.0,
    ) -> None:
        super().__init__(alpha=alpha, beta=beta, p=p, fill=fill)


def _beside(per_input: Tensor, maps: Tensor) -> Tensor:
    """(B,) with as many axes as the maps."""
    return per_input.reshape(-1, *([1] * (maps.ndim - 1)))


def _rectangles(relevance: Tensor, corner: Tensor, height: Tensor, width: Tensor, fits: Tensor) -> Tensor:
    """(B, H, W) bool: rectangles from their upper left corners (B, 2), cut off at the border; none where not `fits`."""
    rows, columns = (torch.arange(n)[None] for n in relevance.shape[1:])
    down = (rows >= corner[:, :1]) & (rows < corner[:, :1] + height[:, None])
    across = (columns >= corner[:, 1:]) & (columns < corner[:, 1:] + width[:, None])
    return (down[:, :, None] & across[:, None] & fits[:, None, None]).to(relevance.device)

"""DASH: pruning scores that mix learnt weights with putative edges between genes, carried over to hidden neurons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from shared._checks import check_choice, check_finite, check_keys, check_range, check_shape, wide
from shared.nets import Phoenix

BRANCHES = (("sums", "out_sums"), ("products", "out_products"))


def start_scores(model: Phoenix, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Scores before the first pruning: uniform on [0, 1].

    Parameters
    ----------
    model : the network.
    generator : draws them.

    Returns
    -------
    Weight's name -> scores in its shape.
    """
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name in Phoenix.WEIGHTS
        for weight in (getattr(model, name),)
    }


@torch.no_grad()
def dash_scores(
    model: Phoenix,
    scores: Mapping[str, Tensor],
    prior: Tensor,
    *,
    together: Tensor | None = None,
    strength: Sequence[float | Tensor] = (0.05, 0.01),
    product: str = "exp",
) -> dict[str, Tensor]:
    """What each weight is worth, by its size and by how well it fits putative edges between genes.

    Hidden neurons have no names, so that the prior is carried over to each layer by least squares, given the current
    scores of the other: for the first layer `B = (Ω Ωᵀ)⁻¹ Ω P` with P which genes act together, for the last one
    `C = |T|ᵀ Ωᵀ (Ω Ωᵀ)⁻¹` with the prior T and the first layer's new scores. The score is `(1 - λ) size + λ |B|`, or
    `|C|`; sizes of a layer sum to one. Strengths of one are BioPrune, of zero plain pruning by size.

    Parameters
    ----------
    model : the network, or copies of it.
    scores : weight's name -> its scores at the last pruning; `start_scores` at first.
    prior : (n_genes, n_genes) or with the copies' dimensions, +1 or -1 where the row's gene is thought to regulate
        the column's, else 0.
    together : (..., n_genes, n_genes), how much two genes act together; by default the targets that they share,
        `|T| |T|ᵀ` over its sum.
    strength : λ of the first and of the last layers, in [0, 1]: numbers, or one per copy.
    product : size of the product branch's first weights: "exp", as the authors have it, by which strongly negative
        ones count little, or "abs".

    Returns
    -------
    Weight's name -> scores in its shape; give them back at the next pruning.

    Raises
    ------
    ValueError
        A prior of another shape, without edges or with values that aren't -1, 0 or 1; scores that lack a weight or have
        another shape; a strength outside [0, 1]; an unknown size.

    References
    ----------
    Hossain et al. 2024, Pruning neural network models for gene regulatory dynamics using data and domain knowledge,
    NeurIPS, section 3 and algorithm 1.
    """
    check_choice("product", product, ("exp", "abs"))
    edges = _check_prior(prior, model.rate.shape[-1])
    first, last = (_check_strength(value, model.rate) for value in strength)
    if together is None:
        together = edges @ edges.mT
    elif together.shape[-2:] != edges.shape[-2:]:
        raise ValueError(f"together has shape {tuple(together.shape)}; the prior has {tuple(edges.shape)}")
    check_finite("together", together)
    check_keys("scores", scores, Phoenix.WEIGHTS)
    for name in Phoenix.WEIGHTS:
        check_shape(f"scores[{name!r}]", scores[name], getattr(model, name).shape)
    together = wide(together)
    together = together / together.sum((-2, -1), keepdim=True)
    found = {}
    for inner, outer in BRANCHES:
        weight = getattr(model, inner).detach()
        size = weight.exp() if inner == "products" and product == "exp" else weight.abs()
        omega = wide(scores[inner])
        fitted = torch.linalg.solve(_gram(omega), omega @ together)
        found[inner] = _mix(_shares(size), fitted.abs(), first)
        omega = found[inner]
        size = getattr(model, outer).detach().abs() * torch.relu(model.rate.detach()).unsqueeze(-1)
        fitted = torch.linalg.solve(_gram(omega), omega @ edges).mT
        found[outer] = _mix(_shares(size), fitted.abs(), last)
    return found


class DashPruner:
    """DASH as a method of `iterative_prune`: called with the network it gives `dash_scores`, and remembers them.

    Parameters
    ----------
    prior : as for `dash_scores`.
    together : as for `dash_scores`.
    strength : as for `dash_scores`; (1, 1) is BioPrune, (0, 0) pruning by size.
    product : as for `dash_scores`.
    generator : draws the scores before the first pruning.
    """

    def __init__(
        self,
        prior: Tensor,
        *,
        together: Tensor | None = None,
        strength: Sequence[float | Tensor] = (0.05, 0.01),
        product: str = "exp",
        generator: torch.Generator | None = None,
    ) -> None:
        self.prior, self.generator = prior, generator
        self.options = {"together": together, "strength": strength, "product": product}
        self.scores: dict[str, Tensor] | None = None

    def __call__(self, model: Phoenix) -> dict[str, Tensor]:
        """The next scores.

        Parameters
        ----------
        model : the network, pruned or not.

        Returns
        -------
        Weight's name -> scores in its shape.
        """
        before = start_scores(model, generator=self.generator) if self.scores is None else self.scores
        self.scores = dash_scores(model, before, self.prior, **self.options)
        return self.scores


def prior_loss(model: Phoenix, prior: Tensor, x: Tensor) -> Tensor:
    """How far the network's drive is from the prior's: PHOENIX's second loss, `mean (drive(x) - x T)²`.

    Parameters
    ----------
    model : the network, or copies of it.
    prior : (..., n_genes, n_genes), as for `dash_scores`.
    x : (..., B, n_genes), inputs; the authors draw them uniformly on [-½, ½].

    Returns
    -------
    One number per copy.

    Raises
    ------
    ValueError
        A prior of another shape or without edges, inputs that aren't finite.
    """
    _check_prior(prior, model.rate.shape[-1])
    check_finite("x", x)
    return (model.drive(x) - x @ prior.to(x)).square().mean((-2, -1))


def prior_matrix(
    edges: Iterable[tuple[str, str]],
    genes: Sequence[str],
    *,
    signs: Sequence[float] | None = None,
    unknown: str = "refuse",
) -> Tensor:
    """Named edges as a matrix whose rows are the regulators.

    Parameters
    ----------
    edges : (regulator, target), by name.
    genes : names in the order of the network's genes.
    signs : +1 for activation or -1 for repression of each edge; +1 throughout by default.
    unknown : what becomes of edges that name other genes: "refuse" or "drop".

    Returns
    -------
    (n_genes, n_genes) of -1, 0 and 1, for `dash_scores`.

    Raises
    ------
    ValueError
        Names that aren't among the genes, a gene twice, another number of signs than edges.
    """
    check_choice("unknown", unknown, ("refuse", "drop"))
    pairs, place = list(edges), {gene: i for i, gene in enumerate(genes)}
    if len(place) < len(genes):
        raise ValueError(f"genes has {len(genes) - len(place)} names more than once; each gene has one row")
    if signs is not None and len(signs) != len(pairs):
        raise ValueError(f"signs has {len(signs)} entries; there are {len(pairs)} edges")
    strange = sorted({name for pair in pairs for name in pair} - set(place))
    if strange and unknown == "refuse":
        raise ValueError(f"edges name {len(strange)} genes that aren't among the {len(genes)}, first {strange[0]!r}")
    prior = torch.zeros(len(genes), len(genes))
    for (regulator, target), sign in zip(pairs, signs if signs is not None else [1.0] * len(pairs)):
        if regulator in place and target in place:
            prior[place[regulator], place[target]] = float(sign)
    return prior


def _check_prior(prior: Tensor, genes: int) -> Tensor:
    """The putative edges, float64."""
    check_finite("prior", prior)
    if prior.ndim < 2 or prior.shape[-2:] != (genes, genes):
        raise ValueError(
            f"prior has shape {tuple(prior.shape)}; expected (..., {genes}, {genes}), the network's genes as rows "
            "(regulators) and as columns (targets)"
        )
    if not bool(((prior == 0) | (prior.abs() == 1)).all()):
        raise ValueError("prior has values other than -1, 0 and 1; an edge is +1 or -1")
    if not bool((prior != 0).flatten(-2).any(-1).all()):
        raise ValueError("prior has no edges; give at least one, or prune by size alone")
    return wide(prior.abs())


def _check_strength(value: float | Tensor, like: Tensor) -> Tensor:
    value = wide(torch.as_tensor(value, device=like.device))
    check_range("strength", float(value.min()), 0.0, 1.0)
    check_range("strength", float(value.max()), 0.0, 1.0)
    return value[..., None, None]


def _gram(omega: Tensor) -> Tensor:
    """Ω Ωᵀ with a millionth of its mean diagonal added, so that it can be inverted however alike neurons are."""
    gram = omega @ omega.mT
    ridge = 1e-6 * gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    return gram + ridge[..., None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _shares(size: Tensor) -> Tensor:
    size = wide(size)
    return size / size.sum((-2, -1), keepdim=True).clamp(min=1e-300 if size.dtype == torch.float64 else 1e-30)


def _mix(data: Tensor, prior: Tensor, strength: Tensor) -> Tensor:
    return (1 - strength) * data + strength * prior

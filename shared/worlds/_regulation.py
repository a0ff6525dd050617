"""Gene regulation whose wiring is known: expression over time by Hill kinetics and logic, and priors that err."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared._checks import check_finite, check_range


@dataclass(frozen=True)
class RegulationWorld:
    """Trajectories of expression and the edges behind them.

    Parameters
    ----------
    x : (n_paths, n_times, n_genes), measured expression: with noise.
    clean : the same without noise.
    t : (n_times,), times.
    truth : (n_genes, n_genes), +1 where the row's gene activates the column's, -1 where it represses it, else 0.
    """

    x: Tensor
    clean: Tensor
    t: Tensor
    truth: Tensor


def regulation_world(
    truth: Tensor,
    *,
    n_paths: int = 150,
    n_times: int = 10,
    noise: float = 0.025,
    substeps: int = 8,
    generator: torch.Generator,
) -> RegulationWorld:
    """Simulate expression along given edges, in the manner of DASH's SIM350.

    Each edge has a Hill curve with half maximum at EC50 ~ U(0.4, 0.6) and exponent ~ U(1.39, 1.8); repressors count as
    one minus it. Of a gene's regulators the one with most targets leads, the others are joined by AND (a product);
    an activator by OR (a + b - ab) with probability 0.1. Expression follows `dx/dt = logic - x`. Genes without
    regulators stay at values drawn for each trajectory, the others start anywhere.

    Parameters
    ----------
    truth : (n_genes, n_genes), +1, -1 or 0, rows the regulators.
    n_paths : trajectories.
    n_times : times 0, 1, ... at which they are measured.
    noise : standard deviation of what is added to each measured value.
    substeps : Runge–Kutta steps from one time to the next.
    generator : draws edges' curves, starting points and noise.

    Returns
    -------
    The world.

    Raises
    ------
    ValueError
        Edges that aren't square or have other values, a number below its least, negative noise.

    References
    ----------
    Hossain et al. 2024 (DASH), appendix; after Bhuva et al. 2019, Differential co-expression-based detection of
    conditional relationships in transcriptional data, Genome Biology 20:236.
    """
    _check_edges("truth", truth)
    check_range("noise", noise, 0.0)
    check_range("n_paths", n_paths, 1)
    check_range("n_times", n_times, 2)
    check_range("substeps", substeps, 1)
    rule = _draw_logic(truth, generator)
    uniform = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    state = (_beta(2, (n_paths, len(truth)), generator) + 0.5 * uniform(n_paths, len(truth)) - 0.25).clamp(0, 1)
    inputs = (truth == 0).all(0)
    mean = _beta(10, (len(truth),), generator)
    spread = torch.minimum(mean, 1 - mean) / 3
    fixed = (mean + spread * torch.randn(n_paths, len(truth), generator=generator)).clamp(0, 1)
    state = torch.where(inputs, fixed, state)
    change = lambda x: torch.where(inputs, 0.0, _logic(rule, x) - x)  # noqa: E731
    path = [state]
    for _ in range(n_times - 1):
        for _ in range(substeps):
            h = 1 / substeps
            k1 = change(state)
            k2 = change(state + h / 2 * k1)
            k3 = change(state + h / 2 * k2)
            state = state + h / 6 * (k1 + 2 * (k2 + k3) + change(state + h * k3))
        path.append(state)
    clean = torch.stack(path, 1)
    x = clean + noise * torch.randn(clean.shape, generator=generator)
    return RegulationWorld(x, clean, torch.arange(float(n_times)), truth.float())


def hill(x: Tensor, ec50: Tensor, n: Tensor) -> Tensor:
    """A Hill curve from f(0) = 0 over f(EC50) = ½ to f(1) = 1.

    Parameters
    ----------
    x : expression, in [0, 1].
    ec50 : where the curve is at its half; `ec50 ** n` below ½.
    n : exponent.

    Returns
    -------
    Activation, as the arguments broadcast.

    Raises
    ------
    ValueError
        A curve that can't have its half at EC50.
    """
    for name, value in (("x", x), ("ec50", ec50), ("n", n)):
        check_finite(name, value)
    half = ec50**n
    if not bool(((half > 0) & (half < 0.5)).all()):
        raise ValueError("ec50 ** n must lie between 0 and ½; no Hill curve has its half there and ends at 1 otherwise")
    top = (half - 1) / (2 * half - 1)
    power = x.clamp(min=0) ** n
    return top * power / (top - 1 + power)


def relocate_edges(prior: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """A prior some of whose edges lie elsewhere: each between a random pair that had none, its sign kept.

    Parameters
    ----------
    prior : (n_genes, n_genes), +1, -1 or 0.
    share : of the edges, in [0, 1].
    generator : draws which and where to.

    Returns
    -------
    As many edges, in the prior's shape.

    Raises
    ------
    ValueError
        A prior that isn't square or has other values, a share outside [0, 1], too few free pairs.
    """
    _check_edges("prior", prior)
    check_range("share", share, 0.0, 1.0)
    rows, columns = prior.nonzero(as_tuple=True)
    moved = torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]
    free = ((prior == 0) & ~torch.eye(len(prior), dtype=torch.bool)).flatten().nonzero().flatten()
    if len(free) < len(moved):
        raise ValueError(f"prior has {len(free)} free pairs for {len(moved)} edges to be moved to")
    places = free[torch.randperm(len(free), generator=generator)[: len(moved)]]
    found = prior.clone(memory_format=torch.contiguous_format)
    signs = prior[rows[moved], columns[moved]]
    found[rows[moved], columns[moved]] = 0
    found.view(-1)[places] = signs
    return found


def permute_prior(prior: Tensor, *, generator: torch.Generator) -> Tensor:
    """The null of a prior: another graph in which every gene has as many targets and regulators as before.

    Pairs of edges swap their targets, ten times the number of edges, wherever that makes neither loop nor duplicate.

    Parameters
    ----------
    prior : (n_genes, n_genes), +1, -1 or 0.
    generator : draws the swaps.

    Returns
    -------
    As many edges with the same row and column counts; signs stay with their regulators.

    Raises
    ------
    ValueError
        A prior that isn't square or has other values.
    """
    _check_edges("prior", prior)
    rows, columns = (part.tolist() for part in prior.nonzero(as_tuple=True))
    signs = prior[rows, columns]
    taken = set(zip(rows, columns))
    pairs = torch.randint(len(rows), (10 * len(rows), 2), generator=generator).tolist() if rows else []
    for i, j in pairs:
        new = (rows[i], columns[j]), (rows[j], columns[i])
        if new[0] == new[1] or taken & set(new) or any(a == b for a, b in new):
            continue
        taken -= {(rows[i], columns[i]), (rows[j], columns[j])}
        taken |= set(new)
        columns[i], columns[j] = columns[j], columns[i]
    found = torch.zeros_like(prior)
    found[rows, columns] = signs
    return found


def _check_edges(argument: str, edges: Tensor) -> None:
    check_finite(argument, edges)
    if edges.ndim != 2 or edges.shape[0] != edges.shape[1]:
        raise ValueError(f"{argument} has shape {tuple(edges.shape)}; expected (genes, genes), regulators as rows")
    if not bool(((edges == 0) | (edges.abs() == 1)).all()):
        raise ValueError(f"{argument} has values other than -1, 0 and 1; an edge is +1 or -1")


def _beta(a: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Beta(a, a) for whole a: the a-th smallest of 2a - 1 uniform numbers."""
    return torch.rand(*shape, 2 * a - 1, generator=generator).sort(-1).values[..., a - 1]


def _draw_logic(truth: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Each gene's regulators (genes, most regulators), the leader first, with their curves; the places left over."""
    genes, most = len(truth), max(1, int((truth != 0).sum(0).max()))
    order = ((truth != 0) * (1 + (truth != 0).sum(1, keepdim=True))).argsort(dim=0, descending=True, stable=True)
    who = order[:most].T
    sign = truth.T.gather(1, who)
    draw = lambda low, high: low + (high - low) * torch.rand(genes, most, generator=generator)  # noqa: E731
    either = (torch.rand(genes, most, generator=generator) < 0.1) & (sign > 0)
    return {"who": who, "sign": sign, "ec50": draw(0.4, 0.6), "n": draw(1.39, 1.8), "either": either}


def _logic(rule: dict[str, Tensor], x: Tensor) -> Tensor:
    """Where each gene is pulled to: (paths, genes) -> (paths, genes)."""
    active = hill(x[:, rule["who"]], rule["ec50"], rule["n"])
    value = torch.where(rule["sign"] < 0, 1 - active, active)
    level = value[..., 0]
    for k in range(1, value.shape[-1]):
        joined = torch.where(rule["either"][:, k], level + value[..., k] - level * value[..., k], level * value[..., k])
        level = torch.where(rule["sign"][:, k] == 0, level, joined)
    return level

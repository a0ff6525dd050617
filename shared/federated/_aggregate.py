"""Aggregators that average: FedAvg and FedProx, the adaptive family (FedOpt), SCAFFOLD, and DP-FedAvg.

An aggregator is pure: `aggregate(params, updates, state)` maps the global state, the stacked `Updates` of a round and
its own state (a dictionary, empty before the first round) to the new global state and the new own state.
`client_options()` is what clients must know for the round.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.federated._state import Params, Updates, derive_rng, flatten, unflatten

State = dict[str, Any]


@runtime_checkable
class Aggregator(Protocol):
    """Anything that merges the updates of a round into the global state."""

    def client_options(self) -> dict[str, float]:
        """What clients must know for the round."""
        ...

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        """Merge a round.

        Parameters
        ----------
        params : the global state.
        updates : what the clients sent; at least one.
        state : this aggregator's own, empty before the first round.

        Returns
        -------
        The new global state and the new own state.
        """
        ...


def reduce_states(stacked: Params, reduce: Callable[[Tensor], Tensor]) -> Params:
    """Apply `reduce`, (n, …) -> (…), to floating entries; counters such as BatchNorm's take their maximum."""
    return {key: reduce(v) if v.is_floating_point() else v.amax(0) for key, v in stacked.items()}


def weighted_mean(stacked: Params, weights: Tensor) -> Params:
    """Mean over the client axis with weights (n,), normalised to one."""
    shares = weights / weights.sum()
    return reduce_states(stacked, lambda v: torch.tensordot(shares.to(v), v, dims=1))


def plain_mean(params: Params, updates: Updates, weights: Tensor) -> Params:
    """The weighted mean of what clients sent; what none of them changed, such as a frozen weight, stays bit for bit."""
    mean = weighted_mean(updates.params, weights)
    still = [key for key in mean if not updates.learns(key) and bool((updates.params[key] == params[key]).all())]
    return mean | {key: params[key] for key in still}


def warn_unprotected(updates: Updates, params: Params) -> None:
    """Say which running statistics leave the clients without noise."""
    loose = [k for k, v in updates.params.items() if v.is_floating_point() and not updates.learns(k)]
    loose = [key for key in loose if bool((updates.params[key] != params[key]).any())]
    if loose:
        warnings.warn(
            f"{', '.join(loose)} are averaged without clipping or noise, so the privacy guarantee doesn't cover them; "
            "use a norm without running statistics (group norm)",
            stacklevel=2,
        )


def _need_updates(updates: Updates) -> None:
    if not len(updates):
        raise ValueError("updates is empty; at least one client must have answered")


class FedAvg:
    r"""Federated averaging, McMahan et al. 2017: $w \leftarrow \sum_k p_k w_k$ with $p_k = n_k / \sum_j n_j$.

    Parameters
    ----------
    weighted : weigh clients by their number of examples; otherwise all alike.
    """

    def __init__(self, *, weighted: bool = True) -> None:
        self.weighted = weighted

    def client_options(self) -> dict[str, float]:
        """What clients must know for the round."""
        return {}

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        """Merge a round.

        Parameters
        ----------
        params : the global state.
        updates : what the clients sent; at least one.
        state : this aggregator's own, empty before the first round.

        Returns
        -------
        The new global state and the new own state.
        """
        _need_updates(updates)
        return plain_mean(params, updates, self.weights(updates)), state

    def weights(self, updates: Updates) -> Tensor:
        """How much each client counts.

        Parameters
        ----------
        updates : what the clients sent.

        Returns
        -------
        Weights (n,), not normalised.
        """
        return updates.num_examples if self.weighted else torch.ones_like(updates.num_examples)


class FedProx(FedAvg):
    r"""FedProx, Li et al. 2020: clients add $\frac{\mu}{2}\|w_k - w\|^2$ to their loss; the server averages.

    Parameters
    ----------
    mu : the strength of the proximal term, >= 0.
    weighted : weigh clients by their number of examples.
    """

    def __init__(self, *, mu: float = 0.1, weighted: bool = True) -> None:
        super().__init__(weighted=weighted)
        check_range("mu", mu, 0)
        self.mu = mu

    def client_options(self) -> dict[str, float]:
        return {"proximal": self.mu}


class FedLC(FedAvg):
    r"""FedLC, Zhang et al. 2022: clients calibrate their logits for the labels they have; the server averages.

    A client with $n_c$ examples of class $c$ trains on the logits $f_c - \tau n_c^{-1/4}$: the rarer a class, the
    larger the margin it is given, and classes that the client doesn't have leave its softmax altogether.

    Parameters
    ----------
    tau : the size of the margins, > 0.
    weighted : weigh clients by their number of examples.
    """

    def __init__(self, *, tau: float = 1.0, weighted: bool = True) -> None:
        super().__init__(weighted=weighted)
        if not tau > 0:
            raise ValueError(f"tau={tau!r} must be positive: the size of the margins")
        self.tau = tau

    def client_options(self) -> dict[str, float]:
        return {"calibration": self.tau}


class FedAvgM(FedAvg):
    r"""Server momentum, Hsu et al. 2019: $v \leftarrow \beta v + \Delta$, $w \leftarrow w + \eta v$.

    Parameters
    ----------
    beta : share of the old velocity, in [0, 1].
    lr : the server's step η.
    weighted : weigh clients by their number of examples.
    """

    def __init__(self, *, beta: float = 0.9, lr: float = 1.0, weighted: bool = True) -> None:
        super().__init__(weighted=weighted)
        check_range("beta", beta, 0, 1)
        self.beta, self.lr = beta, lr

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        mean, _ = super().aggregate(params, updates, state)
        old = state.get("velocity", {})
        velocity, merged = {}, {}
        for key, value in mean.items():
            if not updates.learns(key):
                merged[key] = value
                continue
            velocity[key] = self.beta * old.get(key, 0) + (value - params[key])
            merged[key] = params[key] + self.lr * velocity[key]
        return merged, {"velocity": velocity}


class FedOpt(FedAvg):
    r"""FedAdam, FedYogi and FedAdagrad, Reddi et al. 2021, algorithm 2, on $\Delta = \sum_k p_k (w_k - w)$.

    $m \leftarrow \beta_1 m + (1-\beta_1)\Delta$, $w \leftarrow w + \eta\, m / (\sqrt v + \tau)$, $v_0 = \tau^2$, and
    $v$ by the variant. `bias_correction="flower"` corrects $m$ and $v$ as Flower's FedAdam does (exponent round + 1,
    $v_0 = 0$) instead; the paper has none.

    Parameters
    ----------
    variant : "adam", "yogi" or "adagrad".
    lr : the server's step η.
    beta1, beta2 : shares of the old moments, in [0, 1].
    tau : adaptivity τ, >= 0.
    bias_correction : None as in the paper, or "flower".
    weighted : weigh clients by their number of examples.
    """

    VARIANTS = ("adam", "yogi", "adagrad")

    def __init__(
        self,
        *,
        variant: str = "adam",
        lr: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tau: float = 1e-3,
        bias_correction: str | None = None,
        weighted: bool = True,
    ) -> None:
        super().__init__(weighted=weighted)
        self.variant = check_choice("variant", variant, self.VARIANTS)
        self.bias_correction = check_choice("bias_correction", bias_correction, (None, "flower"))
        check_range("beta1", beta1, 0, 1)
        check_range("beta2", beta2, 0, 1)
        check_range("tau", tau, 0)
        self.lr, self.beta1, self.beta2, self.tau = lr, beta1, beta2, tau

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        mean, _ = super().aggregate(params, updates, state)
        flower = self.bias_correction == "flower"
        start = 0.0 if flower else self.tau**2
        rnd = state.get("round", 0) + 1
        firsts, seconds, merged = {}, {}, {}
        for key, value in mean.items():
            if not updates.learns(key):
                merged[key] = value
                continue
            delta = value - params[key]
            m = state["first"][key] if rnd > 1 else torch.zeros_like(delta)
            v = state["second"][key] if rnd > 1 else torch.full_like(delta, start)
            m = self.beta1 * m + (1 - self.beta1) * delta
            v = self._second(v, delta**2)
            firsts[key], seconds[key] = m, v
            lr = self.lr * (1 - self.beta2 ** (rnd + 1)) ** 0.5 / (1 - self.beta1 ** (rnd + 1)) if flower else self.lr
            merged[key] = params[key] + lr * m / (v.sqrt() + self.tau)
        return merged, {"round": rnd, "first": firsts, "second": seconds}

    def _second(self, v: Tensor, square: Tensor) -> Tensor:
        if self.variant == "adam":
            return self.beta2 * v + (1 - self.beta2) * square
        if self.variant == "yogi":
            return v - (1 - self.beta2) * square * torch.sign(v - square)
        return v + square


class Scaffold(FedAvg):
    r"""SCAFFOLD, Karimireddy et al. 2020, option II.

    Clients step along $g - c_k + c$ and return the change of their $c_k$; the server does
    $w \leftarrow w + \eta_g \overline{w_k - w}$ and $c \leftarrow c + \frac{|S|}{N} \overline{c_k^+ - c_k}$.

    Parameters
    ----------
    lr : the server's step.
    """

    def __init__(self, *, lr: float = 1.0) -> None:
        super().__init__(weighted=False)
        self.lr = lr

    def client_options(self) -> dict[str, float]:
        return {"scaffold": 1.0}

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        if not updates.control:
            raise ValueError(
                "updates.control is empty; SCAFFOLD's clients must send the change of their control variates"
            )
        mean, _ = super().aggregate(params, updates, state)
        merged = {k: params[k] + self.lr * (v - params[k]) if updates.learns(k) else v for k, v in mean.items()}
        share = len(updates) / max(updates.population, len(updates))
        old = state.get("control", {})
        return merged, {"control": {k: old.get(k, 0) + share * v.mean(0) for k, v in updates.control.items()}}


class DPFedAvg(FedAvg):
    r"""Client-level central differential privacy, McMahan et al. 2018.

    Clips each client's $\Delta_k$ to length `clip` = $S$, averages the $m$ of them uniformly, and adds
    $\mathcal N(0, (zS/m)^2 I)$ once, $z$ = `noise_multiplier`. `shared.federated.privacy_spent` gives the price.
    Running statistics are averaged without either, with a warning: the guarantee doesn't cover them.

    Parameters
    ----------
    clip : the length S that a client's update is cut to, > 0.
    noise_multiplier : z, the noise's standard deviation in units of the clip, >= 0.
    random_state : decides the noise of every round.
    """

    def __init__(self, clip: float, noise_multiplier: float, *, random_state: int = 0) -> None:
        super().__init__(weighted=False)
        if not clip > 0:
            raise ValueError(f"clip={clip!r} must be positive: the length to which each client's update is cut")
        check_range("noise_multiplier", noise_multiplier, 0)
        self.clip, self.noise_multiplier, self.random_state = clip, noise_multiplier, random_state

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        _need_updates(updates)
        rnd = state.get("round", 0)
        warn_unprotected(updates, params)
        trained = {key: value for key, value in params.items() if updates.learns(key)}
        start = flatten({key: value[None] for key, value in trained.items()})[0]
        deltas = clip_rows(flatten({key: updates.params[key] for key in trained}) - start, self.clip)
        noise = derive_rng(self.random_state, "central-dp", rnd).standard_normal(len(start))
        mean = deltas.mean(0) + self.noise_multiplier * self.clip / len(updates) * torch.as_tensor(noise).to(deltas)
        rest = plain_mean(params, updates, self.weights(updates))
        return rest | unflatten(start + mean, trained), {"round": rnd + 1}


def clip_rows(vectors: Tensor, limit: float) -> Tensor:
    """Scale rows (n, D) that are longer than `limit` down to that length."""
    lengths = vectors.norm(dim=1, keepdim=True)
    return vectors * (limit / lengths.clamp_min(limit))

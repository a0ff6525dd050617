"""Local training: many clients as one batched computation, or one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from shared._checks import check_choice, check_finite, check_range
from shared.federated._state import Params, Updates, derive_rng, rowwise, take_states

EXECUTORS = ("auto", "vmap", "loop")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example.

    Parameters
    ----------
    outputs : logits (B, C).
    targets : classes (B,).

    Returns
    -------
    Losses (B,), in nats.
    """
    return F.cross_entropy(outputs, targets, reduction="none")


@dataclass(frozen=True)
class LocalTraining:
    """What a client does with the model it gets in a round: mini-batch SGD, `steps` of it or `epochs` passes.

    The optimizer's momentum starts afresh every round, since only models travel.

    Parameters
    ----------
    lr : the learning rate.
    steps, epochs : SGD steps, or passes over the client's examples; one of the two.
    batch_size : None for all of the client's examples in every step.
    momentum, weight_decay : as in torch's SGD.
    lr_decay, lr_decay_every : factor on the learning rate, and every how many rounds; 0 for never.
    clip, noise : local differential privacy on what is sent: the round's change is cut to length `clip`, then gets
        Gaussian noise of standard deviation `noise` in every entry.
    loss : outputs, targets -> one loss per example.

    Raises
    ------
    ValueError
        unless exactly one of `steps` and `epochs` is given, and for a number out of range.
    """

    lr: float
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_decay: float = 1.0
    lr_decay_every: int = 0
    clip: float | None = None
    noise: float = 0.0
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"steps={self.steps!r} and epochs={self.epochs!r}: give one of the two")
        for name, low in (("steps", 1), ("epochs", 1), ("batch_size", 1), ("clip", 0)):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), low)
        for name in ("lr", "momentum", "weight_decay", "noise", "lr_decay_every"):
            check_range(name, getattr(self, name), 0)

    def rate(self, rnd: int) -> float:
        """The learning rate of a round.

        Parameters
        ----------
        rnd : the round, from 0.

        Returns
        -------
        The rate.
        """
        return self.lr * (self.lr_decay ** (rnd // self.lr_decay_every) if self.lr_decay_every else 1.0)

    def batches(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """The order in which a client sees its examples.

        Parameters
        ----------
        size : how many examples it has.
        generator : decides the order.

        Returns
        -------
        Positions of the examples of each step, (steps, batch), -1 where the last batch of a pass is short.
        """
        batch = min(self.batch_size or size, size)
        per_pass = -(-size // batch)
        steps = self.steps or self.epochs * per_pass
        if per_pass == 1:
            return np.broadcast_to(np.arange(size), (steps, size))
        order = np.full((-(-steps // per_pass), per_pass * batch), -1)
        for row in order:
            row[:size] = generator.permutation(size)
        return order.reshape(-1, batch)[:steps]


class Clients:
    """The clients' data. Clients without examples are kept, listed in `empty`, and never take part.

    Parameters
    ----------
    inputs, targets : (N, …) of everyone, finite.
    parts : each client's indices into them.

    Raises
    ------
    ValueError
        for data that doesn't agree, an index out of range, or clients that are all empty.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, parts: Sequence[np.ndarray]) -> None:
        if len(inputs) != len(targets):
            raise ValueError(f"inputs has {len(inputs)} rows and targets {len(targets)}; they must agree")
        if not len(parts):
            raise ValueError("parts is empty; at least one client is needed")
        check_finite("inputs", inputs)
        check_finite("targets", targets)
        self.inputs, self.targets = inputs, targets
        self.parts = [np.asarray(part, dtype=np.int64) for part in parts]
        for client, part in enumerate(self.parts):
            if len(part) and not (0 <= part.min() and part.max() < len(inputs)):
                raise ValueError(f"parts[{client}] has an index outside 0…{len(inputs) - 1}")
        self.sizes = np.array([len(part) for part in self.parts])
        self.filled = np.flatnonzero(self.sizes).tolist()
        self.empty = np.flatnonzero(self.sizes == 0).tolist()
        if not self.filled:
            raise ValueError("parts: no client has any data")

    def __len__(self) -> int:
        return len(self.parts)

    def pooled(self) -> Clients:
        """All clients' examples at one client: central training."""
        return Clients(self.inputs, self.targets, [np.concatenate(self.parts)])

    def schedule(self, client: int, local: LocalTraining, random_state: int, rnd: int) -> np.ndarray:
        """What a client trains on in a round.

        Parameters
        ----------
        client : its id.
        local : what it does in a round.
        random_state, rnd : decide the order, with the client.

        Returns
        -------
        Indices of the examples of each local step, (steps, batch), padded with -1.
        """
        part = self.parts[client]
        at = local.batches(len(part), derive_rng(random_state, "batches", rnd, client))
        return np.where(at >= 0, part[at], -1)


def can_vmap(model: nn.Module) -> bool:
    """Whether the clients' models can run as one batch: no running statistics and no dropout."""
    norms, drops = nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd
    return not any(
        (isinstance(m, norms) and m.track_running_stats) or (isinstance(m, drops) and m.p > 0) for m in model.modules()
    )


class LocalTrainer:
    """Trains the clients of a round from given states.

    Parameters
    ----------
    model : the architecture; it isn't changed.
    local : what a client does in a round.
    random_state : decides batches, dropout and noise, by round and client.
    executor : "vmap" for one batched computation, "loop" for one client after another, "auto" for vmap where the
        model allows it (no running statistics, no dropout; anything else that vmap refuses also falls back). The
        attribute `executor` then says which.

    Raises
    ------
    ValueError
        for "vmap" with a model that can't be batched.
    """

    def __init__(
        self, model: nn.Module, local: LocalTraining, *, random_state: int = 0, executor: str = "auto"
    ) -> None:
        self.model = copy.deepcopy(model).train()
        self.local, self.random_state = local, random_state
        check_choice("executor", executor, EXECUTORS)
        if executor == "vmap" and not can_vmap(model):
            raise ValueError(
                "executor='vmap' can't run a model with running statistics or dropout; use 'loop' or 'auto'"
            )
        self._may_fall_back = executor == "auto"
        self.executor = ("vmap" if can_vmap(model) else "loop") if executor == "auto" else executor
        self.trainable = [key for key, value in model.named_parameters() if value.requires_grad]
        self._whole: tuple[Clients, list[int], list[np.ndarray]] | None = None

    def train(
        self,
        clients: Clients,
        ids: Sequence[int],
        start: Params,
        rnd: int,
        *,
        anchor: Params | None = None,
        proximal: float = 0.0,
        control: Params | None = None,
        own_control: Params | None = None,
    ) -> Updates:
        """Train clients, each from a model of its own.

        Parameters
        ----------
        clients : everyone's data.
        ids : who trains.
        start : the model of each of them, stacked (n, …).
        rnd : the round, from 0.
        anchor : the global state that the proximal term pulls to.
        proximal : the strength of that term.
        control, own_control : SCAFFOLD's c (unstacked) and the clients' c_k (stacked); the result holds their change.

        Returns
        -------
        What the clients send.
        """
        schedules = self._schedules(clients, list(ids), rnd)
        correction = None
        if control is not None and self.local.momentum:
            raise ValueError(f"momentum={self.local.momentum} with SCAFFOLD: its control variates assume plain SGD")
        if control is not None:
            correction = {key: control[key] - own_control[key] for key in self.trainable}
        pull = (proximal, anchor) if proximal else None
        options = {"rate": self.local.rate(rnd), "pull": pull, "correction": correction}
        params, loss = self._run(clients, ids, start, schedules, rnd, options)
        change = {}
        if control is not None:
            made = torch.tensor([len(s) for s in schedules], dtype=torch.float32) * self.local.rate(rnd)
            for key in self.trainable:
                width = made.view(-1, *[1] * (params[key].ndim - 1)).to(params[key])
                change[key] = (start[key] - params[key]) / width - control[key]
        if self.local.clip is not None or self.local.noise:
            params = self._privatise(params, start, ids, rnd)
        examples = torch.as_tensor(clients.sizes[list(ids)], dtype=torch.float64)
        return Updates(list(ids), params, examples, loss.cpu().double(), change, len(clients.filled))

    def _schedules(self, clients: Clients, ids: list[int], rnd: int) -> list[np.ndarray]:
        """The clients' batches; those that always take all their examples have the same ones every round."""
        if self._whole and self._whole[0] is clients and self._whole[1] == ids:
            return self._whole[2]
        schedules = [clients.schedule(client, self.local, self.random_state, rnd) for client in ids]
        if self.local.batch_size is None or self.local.batch_size >= clients.sizes[ids].max():
            self._whole = (clients, ids, schedules)
        return schedules

    def _run(self, clients, ids, start, schedules, rnd, options) -> tuple[Params, Tensor]:
        if self.executor == "vmap":
            try:
                return self._steps(clients, ids, start, schedules, options)
            except RuntimeError:
                if not self._may_fall_back:
                    raise
                self.executor = "loop"  # e.g. data-dependent control flow in the model's forward
        done, losses = [], []
        for row, client in enumerate(ids):
            mine = dict(options)
            if options["correction"] is not None:
                mine["correction"] = take_states(options["correction"], [row])
            with torch.random.fork_rng(devices=[]):  # dropout draws from torch's own generator: lend it a seeded state
                torch.manual_seed(int(derive_rng(self.random_state, "layers", rnd, client).integers(2**31)))
                params, loss = self._steps(clients, [client], take_states(start, [row]), [schedules[row]], mine)
            done.append(params)
            losses.append(loss)
        return {key: torch.cat([params[key] for params in done]) for key in start}, torch.cat(losses)

    def _steps(self, clients, ids, start, schedules, options) -> tuple[Params, Tensor]:
        """SGD on stacked states; with one row and the loop executor the model is called directly."""
        params = {key: value.detach() for key, value in start.items()}
        if self.executor == "loop":  # BatchNorm writes its statistics into the buffers it is given
            params = {key: value if key in self.trainable else value.clone() for key, value in params.items()}
        index, weight, active = _pad(schedules)
        weight, active = (
            weight.to(clients.inputs.device, next(iter(start.values())).dtype),
            active.to(clients.inputs.device),
        )
        velocity: Params = {}
        total = torch.zeros(len(ids), device=clients.inputs.device)
        for step in range(index.shape[1]):
            at = index[:, step].to(clients.inputs.device)
            inputs, targets = clients.inputs[at], clients.targets[at]
            losses, grads = self._gradients(params, inputs, targets, weight[:, step])
            with torch.no_grad():
                moving = active[:, step]
                self._apply(params, grads, velocity, moving, options, own=step > 0)
                total += losses * moving
        return params, total / active.sum(1)

    def _gradients(self, params: Params, inputs: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Params]:
        """Mean loss of each client, (n,), and its gradients, stacked."""
        leaves = {key: params[key].detach().requires_grad_() for key in self.trainable}
        fixed = {key: value for key, value in params.items() if key not in leaves}
        if self.executor == "vmap":

            def losses_of(state: Params, x: Tensor, y: Tensor) -> Tensor:
                return self.local.loss(functional_call(self.model, state, (x,)), y)

            each = vmap(losses_of)({**leaves, **fixed}, inputs, targets)
        else:
            state = {key: value[0] for key, value in {**leaves, **fixed}.items()}
            keep = weight[0] > 0  # without padding, which running statistics would see
            some = self.local.loss(functional_call(self.model, state, (inputs[0][keep],)), targets[0][keep])
            each, weight = some[None], weight[:, keep]
        losses = (each * weight).sum(1)
        grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        found = {k: torch.zeros_like(params[k]) if g is None else g for k, g in zip(leaves, grads)}
        return losses.detach(), found

    def _apply(self, params: Params, grads: Params, velocity: Params, moving: Tensor, options: dict, own: bool) -> None:
        """One SGD step; in place where the tensors are our `own` and not the start that others may share."""
        still = bool((moving == 0).any())
        for key, grad in grads.items():
            value = params[key]
            if self.local.weight_decay:
                grad = grad + self.local.weight_decay * value
            if options["pull"]:
                strength, anchor = options["pull"]
                grad = grad + strength * (value - anchor[key])
            if options["correction"] is not None:
                grad = grad + options["correction"][key]
            if self.local.momentum:
                velocity[key] = grad = self.local.momentum * velocity[key] + grad if key in velocity else grad
            if still:
                grad = grad * moving.view(-1, *[1] * (grad.ndim - 1))
            if own:
                value.add_(grad, alpha=-options["rate"])
            else:
                params[key] = torch.add(value, grad, alpha=-options["rate"])

    def _privatise(self, params: Params, start: Params, ids: Sequence[int], rnd: int) -> Params:
        keys = self.trainable
        change = {key: params[key] - start[key] for key in keys}
        length = torch.stack([rowwise(value).square().sum(1) for value in change.values()]).sum(0).sqrt()
        shrink = (
            torch.ones_like(length) if self.local.clip is None else self.local.clip / length.clamp_min(self.local.clip)
        )
        shrink = torch.nan_to_num(shrink, nan=0.0)  # clip = 0 and no change
        rngs = [derive_rng(self.random_state, "local-dp", rnd, client) for client in ids]
        sent = dict(params)
        for key, value in change.items():
            noise = np.stack([rng.standard_normal(value.shape[1:]) for rng in rngs])
            scaled = value * shrink.view(-1, *[1] * (value.ndim - 1))
            sent[key] = start[key] + scaled + self.local.noise * torch.as_tensor(noise).to(value)
        return sent


def _pad(schedules: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Indices and weights of the mean loss (n, steps, batch) of n schedules, and which steps are theirs (n, steps)."""
    steps, batch = max(len(s) for s in schedules), max(s.shape[1] for s in schedules)
    index = np.full((len(schedules), steps, batch), -1)
    for row, schedule in zip(index, schedules):
        row[: len(schedule), : schedule.shape[1]] = schedule
    real = index >= 0
    count = real.sum(2, keepdims=True)
    weight = real / np.maximum(count, 1)
    return (
        torch.as_tensor(np.maximum(index, 0)),
        torch.as_tensor(weight, dtype=torch.float32),
        torch.as_tensor(count[..., 0] > 0, dtype=torch.float32),
    )


def evaluate_states(
    model: nn.Module,
    metric: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    batch_size: int = 4096,
    models: int = 64,
) -> Callable[[Params], Tensor]:
    """A function that scores stacked states on the same data.

    Parameters
    ----------
    model : the architecture.
    metric : outputs, targets -> a number.
    inputs, targets : (N, …), finite.
    batch_size, models : outputs are made for so many examples and states at a time, which bounds the memory.

    Returns
    -------
    A function from states (n, …) to `metric(outputs, targets)` of each, (n,).

    Raises
    ------
    ValueError
        for data that isn't finite or doesn't agree.
    """
    check_finite("inputs", inputs)
    check_finite("targets", targets)
    if inputs.shape[:1] != targets.shape[:1]:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}, targets {tuple(targets.shape)}; lengths must agree")
    template = copy.deepcopy(model).eval()

    @torch.no_grad()
    def score(stacked: Params) -> Tensor:
        def outputs_of(state: Params, x: Tensor) -> Tensor:
            return functional_call(template, state, (x,))

        run = vmap(outputs_of, in_dims=(0, None), chunk_size=models)
        outputs = torch.cat([run(stacked, chunk) for chunk in inputs.split(batch_size)], 1)
        return torch.stack([metric(each, targets) for each in outputs])

    return score


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of examples whose largest logit is the target's.

    Parameters
    ----------
    outputs : logits (B, C).
    targets : classes (B,).

    Returns
    -------
    A number in [0, 1].
    """
    return (outputs.argmax(-1) == targets).float().mean()

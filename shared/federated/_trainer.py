"""Local training: many clients as one batched computation, or one after another."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from shared._checks import check_choice, copied, wide
from shared.federated._aggregate import warn_unprotected
from shared.federated._client import Clients, LocalTraining
from shared.federated._evaluate import vmap_refuses
from shared.federated._job import Extras, Job, Rows, can_vmap, pad
from shared.federated._optimise import Optimiser
from shared.federated._state import Params, Updates, derive_rng, rowwise, tied_names

EXECUTORS = ("auto", "vmap", "loop")


class LocalTrainer:
    """Trains the clients of a round from given states.

    Parameters
    ----------
    model : the architecture; it isn't changed.
    local : what a client does in a round.
    random_state : decides batches, dropout and noise, by round and client.
    executor : "vmap" for one batched computation, "loop" for one client after another, "auto" for vmap where the
        model allows it (no batch norm, dropout or LSTM). A model that vmap refuses otherwise, by data-dependent control
        flow, is looped with a warning; any other error, memory that ran out too, is raised. The attribute `executor`
        then says which.

    Raises
    ------
    ValueError
        for "vmap" with a model that can't be batched.
    """

    def __init__(
        self, model: nn.Module, local: LocalTraining, *, random_state: int = 0, executor: str = "auto"
    ) -> None:
        self.model = copied("model", model).train()
        self.local, self.random_state = local, random_state
        check_choice("executor", executor, EXECUTORS)
        if executor == "vmap" and not can_vmap(model):
            raise ValueError(
                "executor='vmap' can't run a model with batch norm, running statistics, dropout or LSTMs; "
                "use 'loop' or 'auto'"
            )
        self._may_fall_back = executor == "auto"
        self.executor = ("vmap" if can_vmap(model) else "loop") if executor == "auto" else executor
        self.tied = tied_names(model)
        self.trainable = [key for key, value in model.named_parameters() if value.requires_grad]
        self._whole: tuple[list[Job], Rows] | None = None
        self._data: tuple[list[Tensor], Tensor, Tensor, list[int]] | None = None
        self._margins: dict[tuple[int, int], np.ndarray] = {}

    def train(
        self,
        clients: Clients,
        ids: Sequence[int],
        start: Params,
        rnd: int,
        *,
        anchor: Params | None = None,
        options: Mapping[str, float] | None = None,
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
        options : what the aggregator tells clients: "proximal", "calibration".
        control, own_control : SCAFFOLD's c (unstacked) and the clients' c_k (stacked); the result holds their change.

        Returns
        -------
        What the clients send.
        """
        job = Job(clients, list(ids), start, anchor, options or {}, control, own_control, self.random_state)
        return self.train_jobs([job], rnd)[0]

    def train_jobs(self, jobs: Sequence[Job], rnd: int) -> list[Updates]:
        """Train the clients of several federations side by side.

        Parameters
        ----------
        jobs : at least one; their models have the same architecture.
        rnd : the round, from 0.

        Returns
        -------
        What the clients of each send.
        """
        inputs, targets, offsets = self._joined([job.clients for job in jobs])
        rows = self._rows(jobs, offsets, rnd)
        order, extras = rows.order.to(inputs.device), self._extras(jobs, inputs.device)
        start = {key: torch.cat([job.start[key] for job in jobs]) for key in jobs[0].start}
        sorted_already = rows.steps[0] == rows.steps[-1]  # as many steps for all: no copies that many large models cost
        if not sorted_already:
            start, extras = {key: value[order] for key, value in start.items()}, extras.rows(order)
        params, loss = self._run(inputs, targets, start, rows, extras, rnd)
        back = torch.argsort(order)
        if not sorted_already:
            params = {key: value[back] for key, value in params.items()}
        loss, steps = wide(loss[back].cpu()), torch.as_tensor(rows.steps.copy())[back.cpu()]
        done, begin = [], 0
        for job in jobs:
            mine = slice(begin, begin + len(job.ids))
            begin = mine.stop
            own = {key: value[mine] for key, value in params.items()}
            done.append(self._updates(job, own, loss[mine], steps[mine], rnd))
        return done

    def _updates(self, job: Job, params: Params, loss: Tensor, steps: Tensor, rnd: int) -> Updates:
        change = {}
        if job.control is not None:
            made = steps.to(torch.float32) * self.local.rate(rnd)
            for key in self.trainable:
                width = made.view(-1, *[1] * (params[key].ndim - 1)).to(params[key])
                change[key] = (job.start[key] - params[key]) / width - job.control[key]
        examples = torch.as_tensor(job.clients.sizes[job.ids], dtype=torch.float64)
        count = len(job.clients.filled)
        updates = Updates(job.ids, params, examples, loss, change, count, frozenset(self.trainable))
        if self.local.clip is not None or self.local.noise:
            warn_unprotected(updates, {key: value[0] for key, value in job.start.items()})
            updates.params = self._privatise(params, job, rnd)
        return updates

    def _joined(self, parts: list[Clients]) -> tuple[Tensor, Tensor, list[int]]:
        """The data of all federations, once each, and where each one's begins."""
        given = [clients.inputs for clients in parts]
        if self._data is None or list(map(id, given)) != list(map(id, self._data[0])):
            at: dict[int, int] = {}
            kept, total = [], 0
            for clients in parts:
                if id(clients.inputs) not in at:
                    at[id(clients.inputs)] = total
                    total += len(clients.inputs)
                    kept.append(clients)
            whole = [kept[0].inputs, kept[0].targets]
            if len(kept) > 1:
                whole = [torch.cat([c.inputs for c in kept]), torch.cat([c.targets for c in kept])]
            self._data = (given, *whole, [at[id(x)] for x in given])
        return self._data[1:]

    def _rows(self, jobs: Sequence[Job], offsets: list[int], rnd: int) -> Rows:
        """The clients' batches; those that always take all their examples have the same ones every round."""
        if self._whole and len(self._whole[0]) == len(jobs):
            if all(old.clients is job.clients and old.ids == job.ids for old, job in zip(self._whole[0], jobs)):
                return self._whole[1]
        schedules = []
        for job, offset in zip(jobs, offsets):
            for client in job.ids:
                at = job.clients.schedule(client, self.local, job.random_state, rnd)
                schedules.append(np.where(at >= 0, at + offset, -1) if offset else at)
        steps = np.array([len(schedule) for schedule in schedules])
        order = np.argsort(-steps, kind="stable")
        index, weight = pad([schedules[row] for row in order])
        names = [client for job in jobs for client in job.ids]
        seeds = [job.random_state for job in jobs for _ in job.ids]
        ordered = [names[row] for row in order], [seeds[row] for row in order]
        rows = Rows(index, weight, steps[order], torch.as_tensor(order), *ordered)
        largest = max(int(job.clients.sizes[job.ids].max()) for job in jobs)
        whole = self.local.batch_size is None or self.local.batch_size >= largest
        self._whole = (list(jobs), rows) if whole else None
        return rows

    def _extras(self, jobs: Sequence[Job], device: torch.device) -> Extras:
        pull = correction = margin = None
        strengths = [job.options.get("proximal", 0.0) + self.local.proximal for job in jobs]
        counts = torch.tensor([len(job.ids) for job in jobs])
        if any(strengths):
            anchors = [job.anchor or job.start for job in jobs]
            joined = {
                key: torch.cat([anchor[key].expand_as(job.start[key]) for anchor, job in zip(anchors, jobs)])
                for key in self.trainable
            }
            pull = torch.tensor(strengths).repeat_interleave(counts).to(device), joined
        controlled = [job.control is not None for job in jobs]
        if any(controlled) and (self.local.momentum or self.local.optimiser != "sgd"):
            raise ValueError(
                f"optimiser={self.local.optimiser!r}, momentum={self.local.momentum} with SCAFFOLD, whose control "
                "variates assume plain SGD"
            )
        if any(controlled):
            correction = {
                key: torch.cat(
                    [
                        job.control[key] - job.own_control[key] if has else torch.zeros_like(job.start[key])
                        for job, has in zip(jobs, controlled)
                    ]
                )
                for key in self.trainable
            }
        if any(job.options.get("calibration", 0.0) for job in jobs):
            margins = np.concatenate([self._margin(job) for job in jobs])
            margin = torch.as_tensor(margins, dtype=torch.float32).to(device)
        return Extras(pull, correction, margin)

    def _margin(self, job: Job) -> np.ndarray:
        """τ n_c^(-1/4) of each client's classes, infinite for those it doesn't have; 0 without calibration."""
        classes = int(job.clients.targets.max()) + 1
        tau = job.options.get("calibration", 0.0)
        if not tau:
            return np.zeros((len(job.ids), classes))
        found = []
        for client in job.ids:
            key = id(job.clients), client
            if key not in self._margins:
                labels = job.clients.targets[torch.as_tensor(job.clients.parts[client])].cpu().numpy()
                with np.errstate(divide="ignore"):
                    self._margins[key] = np.bincount(labels, minlength=classes).astype(float) ** -0.25
            found.append(tau * self._margins[key])
        return np.stack(found)

    def _run(
        self, inputs: Tensor, targets: Tensor, params: Params, rows: Rows, extras: Extras, rnd: int
    ) -> tuple[Params, Tensor]:
        """Training on all rows: the models after it and their mean losses."""
        rate = self.local.rate(rnd)
        if self.executor == "vmap":
            try:
                return params, self._steps(inputs, targets, params, rows, extras, rate)
            except RuntimeError as error:
                if not self._may_fall_back or not vmap_refuses(error):
                    raise
                warnings.warn(f"one client after another, since vmap can't run the model: {error}", stacklevel=4)
                self.executor = "loop"  # refused before the first step, so `params` are as they were
        losses = []
        for row, (client, seed) in enumerate(zip(rows.names, rows.seeds)):
            one = slice(row, row + 1)
            alone = Rows(rows.index[one], rows.weight[one], rows.steps[one], rows.order, [client], [seed])
            own = {key: value[one] for key, value in params.items()}
            with torch.random.fork_rng(devices=[]):  # dropout draws from torch's own generator: lend it a seeded state
                torch.manual_seed(int(derive_rng(seed, "layers", rnd, client).integers(2**31)))
                losses.append(self._steps(inputs, targets, own, alone, extras.rows(one), rate))
        return params, torch.cat(losses)

    def _steps(
        self, inputs: Tensor, targets: Tensor, params: Params, rows: Rows, extras: Extras, rate: float
    ) -> Tensor:
        """Steps in place; a row leaves when its steps are done. Returns the mean losses (n,)."""
        optimiser = Optimiser(self.local, rate)
        index, weight = rows.index.to(inputs.device), rows.weight.to(inputs.device)
        total = torch.zeros(len(index), device=inputs.device)
        for step in range(index.shape[1]):
            busy = slice(0, int((rows.steps > step).sum()))
            if busy.stop == 0:
                break
            state = {key: value[busy] for key, value in params.items()}
            at = index[busy, step]
            some = extras.rows(busy)
            losses, grads = self._gradients(state, inputs[at], targets[at], weight[busy, step], some, rows)
            optimiser.apply(state, grads, some)
            total[busy] += losses
        return total / torch.as_tensor(rows.steps.copy()).to(total)

    def _gradients(
        self, params: Params, inputs: Tensor, targets: Tensor, weight: Tensor, extras: Extras, rows: Rows
    ) -> tuple[Tensor, Params]:
        """Mean loss of each client, (n,), and its gradients, stacked."""
        leaves = {key: params[key].detach().requires_grad_() for key in self.trainable}
        fixed = {key: value for key, value in params.items() if key not in leaves}
        margin = extras.margin
        if self.executor == "vmap":
            axes = (0, 0, 0, None if margin is None else 0)
            each = vmap(self._losses, in_dims=axes)({**leaves, **fixed}, inputs, targets, margin)
        else:
            state = {key: value[0] for key, value in {**leaves, **fixed}.items()}
            keep = weight[0] > 0  # without padding, which a batch norm would see
            own = None if margin is None else margin[0]
            try:
                some = self._losses(state, inputs[0][keep], targets[0][keep], own)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise ValueError(
                    f"batch_size={self.local.batch_size} leaves client {rows.names[0]} a batch of one example, which a "
                    "batch norm can't train on; choose another batch_size, or a group norm"
                ) from error
            each, weight = some[None], weight[:, keep]
        losses = (each * weight.to(each)).sum(1)
        grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        found = {k: torch.zeros_like(params[k]) if g is None else g for k, g in zip(leaves, grads)}
        return losses.detach(), found

    def _losses(self, state: Params, inputs: Tensor, targets: Tensor, margin: Tensor | None) -> Tensor:
        outputs = functional_call(self.model, state, (inputs,))
        if margin is not None:
            outputs = outputs - F.pad(margin, (0, outputs.shape[-1] - len(margin)), value=float("inf"))
        return self.local.loss(outputs, targets)

    def _privatise(self, params: Params, job: Job, rnd: int) -> Params:
        start = job.start
        change = {key: params[key] - start[key] for key in self.trainable}
        length = torch.stack([rowwise(value).square().sum(1) for value in change.values()]).sum(0).sqrt()
        shrink = (
            torch.ones_like(length) if self.local.clip is None else self.local.clip / length.clamp_min(self.local.clip)
        )
        shrink = torch.nan_to_num(shrink, nan=0.0)  # clip = 0 and no change
        rngs = [derive_rng(job.random_state, "local-dp", rnd, client) for client in job.ids]
        sent = dict(params)
        for key, value in change.items():
            noise = np.stack([rng.standard_normal(value.shape[1:]) for rng in rngs])
            scaled = value * shrink.view(-1, *[1] * (value.ndim - 1))
            sent[key] = start[key] + scaled + self.local.noise * torch.as_tensor(noise).to(value)
        return sent

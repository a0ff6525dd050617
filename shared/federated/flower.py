"""The same strategies on Flower: in its simulation engine or over a network of machines (needs `flwr` >= 1.41).

Server:

    app = ServerApp()

    @app.main()
    def main(grid, context):
        strategy = FlowerStrategy(DaisyChain(daisy_every=1, aggregate_every=10), clients=50, random_state=0)
        result = strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=100, timeout=60)

Clients: `app = client_app(load)`, where `load(context)` gives the model, this client's inputs and targets, and the
`LocalTraining`. A node's client id is its `partition-id` (`--node-config "partition-id=3"`). With the same ids, data
and seeds the results are those of `simulate` up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import INFO, WARNING, getLogger

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as FlowerBase
from torch import Tensor, nn

from shared._checks import check_range
from shared.federated._client import Clients, LocalTraining
from shared.federated._privacy import laplace_counts
from shared.federated._select import Selector
from shared.federated._state import Params, Update, gather_updates, take_states
from shared.federated._strategy import Strategy
from shared.federated._trainer import LocalTrainer

Loaded = tuple[nn.Module, Tensor, Tensor, LocalTraining]
_LOG = getLogger(__name__)


class FlowerStrategy(FlowerBase):
    """A `shared.federated.Strategy` as a strategy of Flower's Message API.

    Parameters
    ----------
    strategy : what decides who trains which model and how answers are merged.
    clients : nodes to wait for before the first round, at most `patience` seconds.
    random_state : of the clients' batches and noise; as in `simulate`.
    make_selector : builds the strategy's selector from the clients' label counts (`EntropySelector`), which are asked
        for once; they have `classes` entries and, with `epsilon`, are noised *by the client* before they leave it.

    After `start`, `reported` holds the clients that answered in each round and `rejected` (round, client, reason) for
    those whose answer was refused or that failed.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        clients: int,
        random_state: int = 0,
        make_selector: Callable[[Mapping[int, np.ndarray]], Selector] | None = None,
        classes: int = 0,
        epsilon: float | None = None,
        patience: float = 120.0,
    ) -> None:
        check_range("clients", clients, 1)
        if make_selector is not None:
            check_range("classes", classes, 1)
        self.strategy, self.clients, self.random_state = strategy, clients, random_state
        self.make_selector, self.classes, self.epsilon = make_selector, classes, epsilon
        self.patience = patience
        self.client_of: dict[int, int] = {}  # node id -> client id
        self.reported: list[list[int]] = []
        self.rejected: list[tuple[int, int, str]] = []
        self._counts: dict[int, np.ndarray] = {}
        self._sizes: dict[int, int] = {}
        self._asked: dict[int, int] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message per chosen client, each with the model that the plan gives it."""
        if server_round == 1:
            self._begin(arrays, grid)
        else:
            self._meet(grid, set(grid.get_node_ids()) - set(self.client_of))
        rnd = server_round - 1
        nodes = {self.client_of[node]: node for node in grid.get_node_ids() if node in self.client_of}
        plan = self.strategy.plan(rnd, list(nodes))
        self._asked = {nodes[client]: client for client in plan.clients}
        messages = []
        for row, client in enumerate(plan.clients):
            note = {**config, **plan.options, "client": client, "round": rnd, "seed": self.random_state}
            content = RecordDict({"arrays": _record(take_states(plan.params, row)), "config": ConfigRecord(note)})
            if plan.options.get("proximal") and self.strategy.keeps_models:
                content["anchor"] = _record(plan.anchor)
            if plan.control is not None:
                content["control"] = _record(plan.control)
            messages.append(
                Message(content=content, message_type=MessageType.TRAIN, dst_node_id=nodes[client], group_id=str(rnd))
            )
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check and merge what came back; with no usable answer the global model stays."""
        rnd = server_round - 1
        answers = []
        for reply in replies:
            client = self._asked.get(reply.metadata.src_node_id, -1)
            if reply.has_error():
                self.rejected.append((rnd, client, f"error {reply.error.code}: {reply.error.reason}"))
                continue
            try:
                answers.append(_update(client, reply.content))
            except (KeyError, TypeError, ValueError) as error:
                self.rejected.append((rnd, client, f"unreadable answer: {error!r}"))
        updates, refused = gather_updates(answers, self.strategy.params, len(self.strategy.clients))
        self.rejected += [(rnd, client, reason) for client, reason in refused.items()]
        for _, client, reason in [entry for entry in self.rejected if entry[0] == rnd]:
            _LOG.log(WARNING, "round %d: client %d left out: %s", server_round, client, reason)
        self.reported.append(updates.clients)
        self.strategy.absorb(rnd, updates)
        if not len(updates):
            return None, None
        weights = (updates.num_examples / updates.num_examples.sum()).numpy()
        metrics = MetricRecord({"answers": len(updates), "loss": float(weights @ updates.loss.numpy())})
        return _record(self.strategy.consensus()), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: the global model is evaluated at the server (`evaluate_fn`)."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None

    def summary(self) -> None:
        """Log what runs."""
        _LOG.log(INFO, "%s with %s", type(self.strategy).__name__, type(self.strategy.aggregator).__name__)

    def _begin(self, arrays: ArrayRecord, grid: Grid) -> None:
        deadline = time.monotonic() + self.patience
        while True:
            self._meet(grid, set(grid.get_node_ids()) - set(self.client_of))
            if len(set(self.client_of.values())) >= self.clients:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(self.client_of)} of {self.clients} clients came in {self.patience} s")
            time.sleep(0.2)
        ids = sorted({client for client in self.client_of.values() if self._sizes[client] > 0})
        self.strategy.start(dict(arrays.to_torch_state_dict()), ids)
        if self.make_selector is not None:
            self.strategy.selector = self.make_selector({client: self._counts[client] for client in ids})

    def _meet(self, grid: Grid, nodes: set[int]) -> None:
        """Ask new nodes which client they are, how much data they have and, if wanted, of which classes."""
        if not nodes:
            return
        ask = {"classes": self.classes, "epsilon": 0.0 if self.epsilon is None else self.epsilon}
        messages = [
            Message(content=RecordDict({"config": ConfigRecord(ask)}), message_type="query.meet", dst_node_id=node)
            for node in sorted(nodes)
        ]
        for reply in grid.send_and_receive(messages, timeout=self.patience):
            if reply.has_error():
                _LOG.log(WARNING, "node %d can't be met: %s", reply.metadata.src_node_id, reply.error.reason)
                continue
            facts = reply.content["metrics"]
            client = int(facts["client"])
            self.client_of[reply.metadata.src_node_id] = client
            self._sizes[client] = int(facts["num-examples"])
            if self.classes:
                self._counts[client] = np.asarray(facts["counts"], dtype=float)


def client_app(
    load: Callable[[Context], Loaded], *, executor: str = "auto", mods: Sequence[Callable] = ()
) -> ClientApp:
    """A Flower ClientApp whose clients train as those of `simulate` do.

    `load(context)` gives the model, this client's inputs and targets, and its `LocalTraining`; `mods` are Flower's.
    """
    app = ClientApp(mods=list(mods))

    @app.query("meet")
    def meet(message: Message, context: Context) -> Message:
        _, inputs, targets, _ = load(context)
        facts = {"client": int(context.node_config["partition-id"]), "num-examples": len(inputs)}
        ask = message.content["config"]
        if ask["classes"]:
            counts = np.bincount(targets.numpy(), minlength=ask["classes"]).astype(float)
            if ask["epsilon"]:
                counts = laplace_counts(counts[None], ask["epsilon"], generator=np.random.default_rng())[0]
            facts["counts"] = counts.tolist()
        return Message(content=RecordDict({"metrics": MetricRecord(facts)}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model, inputs, targets, local = load(context)
        config = message.content["config"]
        client = int(config["client"])
        clients = Clients(inputs, targets, [*[np.array([], int)] * client, np.arange(len(inputs))])
        trainer = LocalTrainer(model, local, random_state=int(config["seed"]), executor=executor)
        start, control, own = _state(message.content["arrays"]), None, None
        anchor = _state(message.content["anchor"]) if "anchor" in message.content else start
        if "control" in message.content:
            control = _state(message.content["control"])
            kept = context.state["control"] if "control" in context.state else None
            own = {key: value * 0 for key, value in control.items()} if kept is None else _state(kept)
        updates = trainer.train(
            clients,
            [client],
            {key: value[None] for key, value in start.items()},
            int(config["round"]),
            anchor=anchor,
            options={name: float(config[name]) for name in ("proximal", "calibration") if name in config},
            control=control,
            own_control=None if own is None else {key: value[None] for key, value in own.items()},
        )
        facts = {"num-examples": len(inputs), "loss": float(updates.loss[0])}
        content = RecordDict({"arrays": _record(take_states(updates.params, 0)), "metrics": MetricRecord(facts)})
        content["trained"] = ConfigRecord({"keys": sorted(updates.trained)})
        if updates.control:
            change = take_states(updates.control, 0)
            content["control"] = _record(change)
            context.state["control"] = _record({key: own[key] + value for key, value in change.items()})
        return Message(content=content, reply_to=message)

    return app


def _record(state: Params) -> ArrayRecord:
    return ArrayRecord({key: value.contiguous() for key, value in state.items()})


def _state(record: ArrayRecord) -> Params:
    return dict(record.to_torch_state_dict())


def _update(client: int, content: RecordDict) -> Update:
    metrics = content["metrics"]
    control = _state(content["control"]) if "control" in content else {}
    trained = frozenset(content["trained"]["keys"]) if "trained" in content else None
    examples, loss = float(metrics["num-examples"]), float(metrics.get("loss", "nan"))
    return Update(client, _state(content["arrays"]), examples, loss, control, trained)

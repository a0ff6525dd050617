"""The Flower adapter: equal to the simulation and to Flower's own strategies; real processes with a dying client."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.federated import (
    Clients,
    CoordinateMedian,
    DaisyChain,
    EntropySelector,
    FedAvg,
    FedAvgM,
    FedOpt,
    FedProx,
    LocalTraining,
    Scaffold,
    Strategy,
    TrimmedMean,
    accuracy,
    evaluate_states,
    label_counts,
    partition_classes,
    simulate,
)

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as theirs

from shared.federated.flower import FlowerStrategy, client_app
from shared.nets import build_net

ROOT = Path(__file__).resolve().parents[2]
LOCAL = LocalTraining(lr=0.1, epochs=2, batch_size=4)


class ProcessGrid(Grid):
    """A grid whose nodes are contexts in this process. `broken(node, message)` may answer in a client's place."""

    def __init__(self, app, clients: int, broken=None) -> None:
        try:  # since Flower 1.40 a message reads who sends it from here
            from flwr.supercore.task_identity import TaskIdentity

            TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 0
        except ImportError:
            pass
        self.app, self.broken = app, broken
        self.contexts = {
            100 + client: Context(0, 100 + client, {"partition-id": client}, RecordDict(), {})
            for client in range(clients)
        }

    def set_run(self, run) -> None: ...

    @property
    def run(self): ...

    def create_message(self, *args, **kwargs): ...

    def push_messages(self, messages): ...

    def pull_messages(self, message_ids): ...

    def get_node_ids(self):
        return list(self.contexts)

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            reply = self.broken(node - 100, message) if self.broken else None
            if reply != "silent":
                replies.append(reply or self.app(message, self.contexts[node]))
        return replies[::-1]  # answers come in any order


@pytest.fixture
def federation(digits):
    rng = np.random.default_rng(3)
    parts = np.split(rng.permutation(70), [5, 17, 25, 40, 52])
    net = build_net("mlp", (64,), 10, generator=torch.Generator().manual_seed(0), hidden=[12])
    clients = Clients(*digits, parts)

    def load(context):
        part = torch.tensor(clients.parts[context.node_config["partition-id"]])
        return net, clients.inputs[part], clients.targets[part], LOCAL

    return net, clients, client_app(load)


def run_flower(net, app, strategy, rounds, clients=6, broken=None, **options):
    flower = FlowerStrategy(strategy, clients=clients, random_state=7, **options)
    arrays = flower.start(ProcessGrid(app, clients, broken), ArrayRecord(net.state_dict()), rounds).arrays
    return flower, dict(arrays.to_torch_state_dict())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Strategy(),
        lambda: Strategy(aggregator=FedProx(mu=0.3), per_round=3, random_state=5),
        lambda: Strategy(aggregator=FedOpt(variant="yogi"), per_round=4),
        lambda: Strategy(aggregator=Scaffold(), per_round=4, random_state=1),
        lambda: Strategy(aggregator=CoordinateMedian()),
        lambda: DaisyChain(daisy_every=1, aggregate_every=3, random_state=2),
        lambda: DaisyChain(daisy_every=2, aggregate_every=2, aggregator=FedProx(mu=0.2), random_state=2),
    ],
)
def test_flower_equals_the_simulation(federation, make):
    net, clients, app = federation
    flower, arrays = run_flower(net, app, make(), 4)
    expected = simulate(net, clients, make(), 4, local=LOCAL, random_state=7)
    assert flower.reported == expected.reported
    for key, value in expected.params.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-6)


def test_local_noise_is_the_simulation_s(digits):
    local = LocalTraining(lr=0.1, steps=1, clip=0.5, noise=0.1)
    clients = Clients(*digits, [np.arange(4), np.arange(4, 9)])
    net = build_net("mlp", (64,), 10, generator=torch.Generator().manual_seed(0), hidden=[12])
    app = client_app(lambda c: (net, *(v[clients.parts[c.node_config["partition-id"]]] for v in digits), local))
    _, arrays = run_flower(net, app, Strategy(), 2, clients=2)
    expected = simulate(net, clients, Strategy(), 2, local=local, random_state=7).params
    for key, value in expected.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (FedAvg(), lambda **k: theirs.FedAvg(**k)),
        (FedAvgM(beta=0.8, lr=0.7), lambda **k: theirs.FedAvgM(server_momentum=0.8, server_learning_rate=0.7, **k)),
        (
            FedOpt(variant="adam", lr=0.05, tau=1e-3, bias_correction="flower"),
            lambda **k: theirs.FedAdam(eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-3, **k),
        ),
        (CoordinateMedian(), lambda **k: theirs.FedMedian(**k)),
        (TrimmedMean(beta=0.2), lambda **k: theirs.FedTrimmedAvg(beta=0.2, **k)),
    ],
)
def test_aggregators_against_flower_s_own(federation, ours, peer):
    net, _, app = federation

    class Peer:
        def __init__(self):
            self.inner = peer(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=6)

        def start(self, grid, initial_arrays, rounds):
            """Flower's loop, with the configuration that our clients read."""
            arrays = initial_arrays
            for rnd in range(1, rounds + 1):
                messages = []
                for plain in self.inner.configure_train(rnd, arrays, ConfigRecord({}), grid):
                    node = plain.metadata.dst_node_id
                    config = {**plain.content["config"], "client": node - 100, "round": rnd - 1, "seed": 7}
                    content = RecordDict({"arrays": plain.content["arrays"], "config": ConfigRecord(config)})
                    messages.append(Message(content=content, message_type="train", dst_node_id=node))
                merged, _ = self.inner.aggregate_train(rnd, grid.send_and_receive(messages))
                # some of Flower's aggregators return float64
                arrays = ArrayRecord({key: value.float() for key, value in merged.to_torch_state_dict().items()})
            return dict(arrays.to_torch_state_dict())

    expected = Peer().start(ProcessGrid(app, 6), ArrayRecord(net.state_dict()), 3)
    _, arrays = run_flower(net, app, Strategy(aggregator=ours), 3)
    for key, value in expected.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-6)


def test_entropy_selection_on_counts_that_clients_sent(digits):
    labels = digits[1].numpy()
    parts = partition_classes(labels[:300], 12, 2, generator=np.random.default_rng(0))
    clients = Clients(*digits, parts)
    net = build_net("mlp", (64,), 10, generator=torch.Generator().manual_seed(0), hidden=[12])
    app = client_app(lambda c: (net, *(v[clients.parts[c.node_config["partition-id"]]] for v in digits), LOCAL))

    def entropy(counts):
        return EntropySelector(counts, buffer=4, per_round=3)

    flower, arrays = run_flower(net, app, Strategy(per_round=3), 3, clients=12, make_selector=entropy, classes=10)
    exact = entropy(label_counts(labels, parts, classes=10))
    expected = simulate(net, clients, Strategy(per_round=3, selector=exact), 3, local=LOCAL, random_state=7)
    assert flower.reported == [sorted(chosen) for chosen in expected.selected]
    for key, value in expected.params.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-6)
    noised, _ = run_flower(
        net, app, Strategy(per_round=3), 1, clients=12, make_selector=entropy, classes=10, epsilon=0.5
    )
    sent = np.stack([noised._counts[c] for c in range(12)])
    assert not np.array_equal(sent, label_counts(labels, parts, classes=10))
    assert sent.min() >= 0


# --- faults ------------------------------------------------------------------------------------------------------


def test_faulty_answers_are_named_and_the_round_survives(federation):
    net, clients, app = federation

    def broken(client, message):
        if message.metadata.message_type != "train" or client not in (1, 2, 3, 4):
            return None
        arrays = message.content["arrays"].to_torch_state_dict()
        metrics = MetricRecord({"num-examples": 5})
        if client == 1:
            return Message(error=Error(3, "out of memory"), reply_to=message)
        if client == 2:
            arrays["1.bias"] = torch.full_like(arrays["1.bias"], float("nan"))
        elif client == 3:
            arrays.pop("3.bias")
        else:
            return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
        return Message(content=RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    flower, arrays = run_flower(net, app, Strategy(), 2, broken=broken)
    assert flower.reported == [[0, 5], [0, 5]]
    reasons = {client: reason for rnd, client, reason in flower.rejected if rnd == 0}
    assert "out of memory" in reasons[1]
    assert "'1.bias' holds NaN" in reasons[2]
    assert "lacks the key '3.bias'" in reasons[3]
    assert "unreadable" in reasons[4]
    expected = simulate(
        net, clients, Strategy(), 2, local=LOCAL, random_state=7, dropout=lambda rnd, c: c in (1, 2, 3, 4)
    )
    for key, value in expected.params.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-6)


def test_nobody_answers_a_round(federation):
    net, clients, app = federation

    def broken(client, message):
        return "silent" if message.metadata.group_id == "1" else None

    flower, arrays = run_flower(
        net, app, DaisyChain(daisy_every=1, aggregate_every=2, random_state=1), 4, broken=broken
    )
    assert flower.reported[1] == []
    expected = simulate(
        net,
        clients,
        DaisyChain(daisy_every=1, aggregate_every=2, random_state=1),
        4,
        local=LOCAL,
        random_state=7,
        dropout=lambda rnd, c: rnd == 1,
    )
    for key, value in expected.params.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-6)


def test_too_few_clients_come(federation):
    net, _, app = federation
    flower = FlowerStrategy(Strategy(), clients=9, patience=0.3)
    with pytest.raises(TimeoutError, match="only 6 of 9 clients"):
        flower.start(ProcessGrid(app, 6), ArrayRecord(net.state_dict()), 1)
    with pytest.raises(ValueError, match="clients=0"):
        FlowerStrategy(Strategy(), clients=0)
    with pytest.raises(ValueError, match="classes=0"):
        FlowerStrategy(Strategy(), clients=2, make_selector=lambda c: None)


# --- real processes ----------------------------------------------------------------------------------------------

APP = """
import os, time
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from shared.federated import LocalTraining, Strategy, DaisyChain
from shared.nets import build_net
from shared.federated.flower import FlowerStrategy, client_app

torch.set_num_threads(1)


def load(context):
    data = load_digits()
    part = np.split(np.random.default_rng(3).permutation(600), 4)[int(context.node_config["partition-id"])]
    x = torch.tensor(data.data[part] / 16, dtype=torch.float32)
    return net(), x, torch.tensor(data.target[part]), LocalTraining(lr=0.1, epochs=2, batch_size=16)


def net():
    return build_net("mlp", (64,), 10, generator=torch.Generator().manual_seed(0), hidden=[24])


def stall(message, context, call_next):
    # client 2 hangs in its second round, so that it can be killed while it trains
    if context.node_config["partition-id"] == 2 and message.metadata.group_id == "1":
        Path(context.run_config["folder"], "training").write_text(str(os.getpid()))
        time.sleep(3600)
    return call_next(message, context)


client = client_app(load, mods=[stall])
server = ServerApp()


@server.main()
def main(grid, context):
    strategy = FlowerStrategy(Strategy(), clients=4, random_state=7, patience=90)
    timeout = float(context.run_config["timeout"])
    result = strategy.start(grid, ArrayRecord(net().state_dict()), num_rounds=3, timeout=timeout)
    folder = Path(context.run_config["folder"])
    folder.joinpath("reported").write_text(repr(strategy.reported))
    state = {k: v.contiguous() for k, v in result.arrays.to_torch_state_dict().items()}
    save_file(state, folder / "part")
    os.replace(folder / "part", folder / "final.safetensors")
"""

PROJECT = """
[project]
name = "reprise-test"
version = "1.0.0"
description = "a test"
license = "MIT"
dependencies = ["flwr"]

[tool.flwr.app]
publisher = "reprise"

[tool.flwr.app.components]
serverapp = "reprise_test.app:server"
clientapp = "reprise_test.app:client"

[tool.flwr.app.config]
folder = ""
timeout = 240.0
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, seconds: float, describe) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if "Exit Code" in describe():
            pytest.fail(f"a program of Flower's ended early\n{describe()}")
        if time.monotonic() > deadline:
            pytest.fail(f"timed out after {seconds} s\n{describe()}")
        time.sleep(0.3)


@pytest.fixture
def app_folder(tmp_path) -> Path:
    folder = tmp_path / "app"
    (folder / "reprise_test").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "reprise_test" / "__init__.py").write_text("")
    (folder / "reprise_test" / "app.py").write_text(textwrap.dedent(APP))
    return folder


def expected_run(dropout):
    data = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    clients = Clients(x, y, np.split(np.random.default_rng(3).permutation(600), 4))
    net = build_net("mlp", (64,), 10, generator=torch.Generator().manual_seed(0), hidden=[24])
    local = LocalTraining(lr=0.1, epochs=2, batch_size=16)
    score = {"test": evaluate_states(net, accuracy, x[600:], y[600:])}
    return simulate(net, clients, Strategy(), 3, local=local, random_state=7, dropout=dropout, evaluate=score)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_real_processes_on_loopback_with_a_client_killed_in_mid_round(tmp_path, app_folder):
    """SuperLink and four SuperNodes as processes; one is killed while it trains in round 2; rounds 2 and 3 finish.

    SuperLink notices the death by the missing heartbeats (about a minute), before the round's time limit. The result
    must equal the in-process simulation in which that client stays silent from round 2 on, to 1e-5.
    """
    binaries = Path(sys.executable).parent
    if not (binaries / "flower-superlink").exists():
        pytest.skip("flwr's programs aren't installed beside this Python")
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    (home / "config.toml").write_text(f'[superlink.loop]\naddress = "127.0.0.1:{port}"\ninsecure = true\n')
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    logs, processes = {}, {}

    def start(name, *command):
        logs[name] = tmp_path / f"{name}.log"
        processes[name] = subprocess.Popen(
            [str(binaries / command[0]), *command[1:]],
            stdout=logs[name].open("w"),
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def describe():
        return "\n".join(f"--- {name}\n{path.read_text()[-2500:]}" for name, path in logs.items())

    def kill(name):
        try:
            os.killpg(processes[name].pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        processes[name].wait()

    try:
        start(
            "superlink", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 90, describe)
        for client in range(4):
            start(
                f"node{client}", "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
                "--port", str(free_port()), "--node-config", f"partition-id={client} num-partitions=4",
            )  # fmt: skip
        start("run", "flwr", "run", str(app_folder), "loop", "--stream", "--run-config", f'folder="{tmp_path}"')
        wait_for((tmp_path / "training").exists, 400, describe)
        kill("node2")
        wait_for((tmp_path / "final.safetensors").exists, 500, describe)
    finally:
        for name in processes:
            kill(name)
    assert (tmp_path / "reported").read_text() == "[[0, 1, 2, 3], [0, 1, 3], [0, 1, 3]]"
    expected = expected_run(lambda rnd, client: client == 2 and rnd >= 1)
    arrays = load_file(tmp_path / "final.safetensors")
    for key, value in expected.params.items():
        torch.testing.assert_close(arrays[key], value, rtol=0, atol=1e-5)
    whole = expected_run(0.0)
    assert any(not torch.allclose(arrays[key], value, atol=1e-4) for key, value in whole.params.items())
    assert expected.scores["test"][-1] > expected.scores["test"][0]


@pytest.mark.slow
def test_simulation_engine(federation):
    """Flower's own simulation engine (Ray) with the same strategy gives the same numbers."""
    pytest.importorskip("ray")
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    net, clients, app = federation
    found = {}
    server = ServerApp()

    @server.main()
    def main(grid, context):
        flower = FlowerStrategy(DaisyChain(daisy_every=1, aggregate_every=2, random_state=2), clients=6, random_state=7)
        result = flower.start(grid, ArrayRecord(net.state_dict()), num_rounds=3, timeout=200)
        found.update(result.arrays.to_torch_state_dict())

    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_simulation(server, app, 6, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
    expected = simulate(
        net, clients, DaisyChain(daisy_every=1, aggregate_every=2, random_state=2), 3, local=LOCAL, random_state=7
    )
    for key, value in expected.params.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)

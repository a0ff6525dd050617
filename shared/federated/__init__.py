"""Federated learning: aggregators, client selection, partitions, daisy-chaining, and an in-process simulation.

>>> import numpy as np, torch
>>> from shared.federated import Clients, DaisyChain, LocalTraining, partition_iid, simulate
>>> x, net = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.nn.Linear(4, 2)
>>> clients = Clients(x, (x[:, 0] > 0).long(), partition_iid(60, 6, generator=np.random.default_rng(0)))
>>> history = simulate(net, clients, DaisyChain(aggregate_every=5), 10, local=LocalTraining(lr=0.1, steps=1))
>>> len(history.selected), sorted(history.params)
(10, ['bias', 'weight'])

`shared.federated.flower` runs the same strategies on Flower; it needs the optional package `flwr`.
"""

from shared.federated._aggregate import Aggregator, DPFedAvg, FedAvg, FedAvgM, FedLC, FedOpt, FedProx, Scaffold
from shared.federated._client import Clients, LocalTraining, accuracy, cross_entropy
from shared.federated._evaluate import ClientEvaluation, evaluate_states
from shared.federated._partition import (
    label_counts,
    partition_classes,
    partition_dirichlet,
    partition_iid,
    partition_tiny,
)
from shared.federated._privacy import laplace_counts, noise_for, privacy_spent
from shared.federated._robust import (
    CoordinateMedian,
    GeometricMedian,
    RadonPoint,
    TrimmedMean,
    iterated_radon_point,
    radon_point,
)
from shared.federated._select import (
    ClassBalancedSelector,
    ClusterSelector,
    EntropySelector,
    PowerOfChoice,
    RandomSelector,
    RoundRobin,
    Selector,
    label_entropy,
)
from shared.federated._simulate import FederatedHistory, Federation, simulate, simulate_many, visited_clients
from shared.federated._state import (
    Params,
    Update,
    Updates,
    check_state,
    flatten,
    gather_updates,
    payload_bytes,
    screen_updates,
    stack_states,
    state_of,
    take_states,
    unflatten,
)
from shared.federated._strategy import DaisyChain, Plan, Strategy
from shared.federated._trainer import LocalTrainer

__all__ = [
    "Aggregator",
    "ClassBalancedSelector",
    "ClientEvaluation",
    "Clients",
    "ClusterSelector",
    "CoordinateMedian",
    "DPFedAvg",
    "DaisyChain",
    "EntropySelector",
    "FedAvg",
    "FedAvgM",
    "FedLC",
    "FedOpt",
    "FedProx",
    "FederatedHistory",
    "Federation",
    "GeometricMedian",
    "LocalTrainer",
    "LocalTraining",
    "Params",
    "Plan",
    "PowerOfChoice",
    "RadonPoint",
    "RandomSelector",
    "RoundRobin",
    "Scaffold",
    "Selector",
    "Strategy",
    "TrimmedMean",
    "Update",
    "Updates",
    "accuracy",
    "check_state",
    "cross_entropy",
    "evaluate_states",
    "flatten",
    "gather_updates",
    "iterated_radon_point",
    "label_counts",
    "label_entropy",
    "laplace_counts",
    "noise_for",
    "partition_classes",
    "partition_dirichlet",
    "partition_iid",
    "partition_tiny",
    "payload_bytes",
    "privacy_spent",
    "radon_point",
    "screen_updates",
    "simulate",
    "simulate_many",
    "stack_states",
    "state_of",
    "take_states",
    "unflatten",
    "visited_clients",
]

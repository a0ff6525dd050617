"""Conditions of the rooms' classes: what their constructor and main methods give, in three tables by `room.Class`.

`MODELS` run a model (tried under `kinds.MODEL`), `TENSORS` take tensors (under `kinds.ON_ANY`), `ESTIMATORS` fit a
table `X` of numpy (as a list, a frame, a sparse table, with missing values, of one row ...). `KNOWN` says where one
differs and why, `WITHOUT` which class has no row and why. Records (dataclasses and tuples without methods), protocols
and abstract bases need neither.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from shared import (
    circuits,
    concepts,
    correction,
    embeddings,
    federated,
    hooks,
    influence,
    lrp,
    metrics,
    nets,
    patterns,
    probes,
    pruning,
    sae,
    vision,
)
from tests.bad_input.good import normal, rand
from tests.conditions.kinds import whole

Row = Callable[[], dict[str, Any]]
X, CLASSES = rand(2, 3, 4, 4), torch.tensor([1, 0])
MAPS, LABELS = rand(6, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
H, Y = rand(20, 4), torch.arange(20) % 2
TABLE, BINARY = normal(24, 4), np.arange(24) % 2


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def bound(call: Callable[..., Any], *given: Any) -> Callable[..., Any]:
    return functools.partial(call, *given)


# --- models ------------------------------------------------------------------------------------------------------
def explained(make: Callable[[], Any], model: nn.Module, x: torch.Tensor, target: Any, record: str) -> Any:
    return lrp.attribute(model, x, target, composite=make(), record=record)


def attributed(make: Callable[[], Any], model: nn.Module, x: torch.Tensor, y: torch.Tensor, head: str) -> Any:
    net = influence.TrainedClassifier(model, x, y, head=head)
    attributor = make().fit(net)
    return attributor.attribute(x[:2]), attributor.self_influence(), attributor.top(x[:2], 2).values


def classified(model: nn.Module, x: torch.Tensor, y: torch.Tensor, head: str) -> Any:
    net = influence.TrainedClassifier(model, x, y, head=head)
    return net.features(x), net.logits(net.features(x)), net.predict(x)


def directions(number: int = 2) -> list[probes.Direction]:
    return [
        probes.fit_direction(H, (H[:, j] > H[:, j].median()).long(), method="pattern", layer="first", pool="mean")
        for j in range(number)
    ]


def corrected(make: Callable[[str], Any], model: nn.Module, layer: str, x: torch.Tensor) -> Any:
    method = make(layer)
    for direction in getattr(method, "correction", method).directions:
        object.__setattr__(direction, "layer", layer)
    return method.logits(model, x)


def conditional(layer: str) -> correction.RClArC:
    return correction.RClArC(clarc(correction.PClArC)(layer), "class", class_map={0: [0], 1: [1], 2: [0, 1]})


def clarc(kind: type) -> Callable[[str], Any]:
    def make(layer: str) -> Any:
        several = directions()
        for direction in several:
            object.__setattr__(direction, "layer", layer)
        return kind(several, layer)

    return make


def streamed(model: nn.Module, layer: str, x: torch.Tensor) -> Any:
    stream = sae.ActivationStream(model, layer, [x, x], 8, generator=seeded())
    return [batch for batch in itertools.islice(stream, 3)]  # it never ends


def axis_found(model: nn.Module, layer: str, x: torch.Tensor) -> Any:
    with hooks.capture(model, layer) as kept:
        model(x)
    return hooks.AxisFinder(model, layer)(next(iter(dict(kept).values())))


COMPOSITES: dict[str, Callable[[], Any]] = {
    name: getattr(lrp, name)
    for name in (
        "EpsilonPlus EpsilonPlusFlat EpsilonAlpha2Beta1 EpsilonAlpha2Beta1Flat ExcitationBackprop "
        "GuidedBackprop Deconvnet BetaSmooth"
    ).split()
} | {
    "EpsilonGammaBox": lambda: lrp.EpsilonGammaBox(-1.0, 2.0),
    "Composite": lambda: lrp.Composite([(lrp.AnyLinear, lrp.Epsilon())]),
}
RULES: dict[str, Any] = {
    **{name: (lrp.AnyLinear, getattr(lrp, name)()) for name in "AlphaBeta Epsilon Gamma ZPlus".split()},
    **{name: (nn.ReLU, getattr(lrp, name)()) for name in "DeconvReLU GuidedReLU Pass SmoothReLU".split()},
    "Norm": (lrp.AvgPool, lrp.Norm()),
}
FIRST = {"Flat": lrp.Flat(), "WSquare": lrp.WSquare(), "ZBox": lrp.ZBox(-1.0, 2.0)}
ATTRIBUTORS: dict[str, Callable[[], Any]] = {
    "DualDA": lambda: influence.DualDA(C=0.1),
    "InfluenceFunctions": lambda: influence.InfluenceFunctions(damping=0.1),
    "RandomAttribution": lambda: influence.RandomAttribution(seeded()),
    "RepresenterPoints": lambda: influence.RepresenterPoints(l2=0.1),
    "Similarity": influence.Similarity,
    "TRAK": lambda: influence.TRAK(projection=8, damping=0.1),
    "TracIn": influence.TracIn,
}


def composed(composite: Callable[[], Any]) -> Row:
    call = bound(explained, composite)
    return lambda: {"model": whole(), "x": X, "target": CLASSES, "record": "first", "call": call}


def ruled(rule: Any) -> Callable[[], Any]:
    return lambda: lrp.Composite([rule])


def first(rule: Any) -> Callable[[], Any]:
    return lambda: lrp.Composite([(lrp.AnyLinear, lrp.Epsilon())], first_map=[(lrp.AnyLinear, rule)])


def of_layer(call: Callable[..., Any]) -> Row:
    return lambda: {"model": whole(), "layer": "first", "x": X, "call": call}


MODELS: dict[str, Row] = {
    **{f"lrp.{name}": composed(make) for name, make in COMPOSITES.items()},
    **{f"lrp.{name}": composed(ruled(rule)) for name, rule in RULES.items()},
    **{f"lrp.{name}": composed(first(rule)) for name, rule in FIRST.items()},
    **{
        f"influence.{name}": lambda make=make: {
            **{"model": whole(), "x": MAPS, "y": LABELS, "head": "head", "call": bound(attributed, make)}
        }
        for name, make in ATTRIBUTORS.items()
    },
    "influence.TrainedClassifier": lambda: {
        **{"model": whole(), "x": MAPS, "y": LABELS, "head": "head", "call": classified}
    },
    "correction.PClArC": of_layer(bound(corrected, clarc(correction.PClArC))),
    "correction.AClArC": of_layer(bound(corrected, clarc(correction.AClArC))),
    "correction.RClArC": of_layer(bound(corrected, conditional)),
    "sae.ActivationStream": of_layer(streamed),
    "hooks.AxisFinder": of_layer(axis_found),
}


# --- tensors -----------------------------------------------------------------------------------------------------
def split_layer(x: torch.Tensor) -> Any:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).to(x.dtype)
    split = circuits.SplitLayer(layer, {1: circuits.split_by_shares(rand(2, 4).softmax(0))})
    return split(x), split.subunits(x), split.merge_matrix()


def dictionary(kind: str = "topk", **options: Any) -> sae.SparseDict:
    options = {"k": 2} | options if kind in ("topk", "batchtopk") else options
    return sae.SparseDict(sae.SAEConfig(kind, 4, 8, **options), generator=seeded())


def encoded(x: torch.Tensor) -> Any:
    made = [dictionary(kind) for kind in ("standard", "gated", "jumprelu", "topk", "batchtopk")]
    made[-1].calibrate_threshold(H)
    return [(one.encode(x), one.decode(one.encode(x))) for one in made]


def sparse_rows(x: torch.Tensor) -> Any:
    codes = dictionary().encode_sparse(x)
    return codes.dense(), codes.l0(), codes.matmul(torch.eye(8, 3))


def updates(params: dict[str, torch.Tensor]) -> federated.Updates:
    n = len(params["w"])
    return federated.Updates(list(range(n)), params, torch.arange(1.0, n + 1).double(), torch.zeros(n), population=n)


def merged(make: Callable[[], Any], w: torch.Tensor) -> Any:
    aggregator = make()
    control = {"w": w * 0.1} if isinstance(aggregator, federated.Scaffold) else {}
    sent = updates({"w": w})
    sent.control = control
    state: Any = {}
    params = {"w": w.detach()[0] * 0}
    for _ in range(2):
        params, state = aggregator.aggregate(params, sent, state)
    return params


def probed(make: Callable[[], Any], H: torch.Tensor, y: torch.Tensor) -> Any:
    probe = make().fit(H, y)
    return probe.decision_function(H)


def detected(H: torch.Tensor, y: torch.Tensor) -> Any:
    detector = correction.ArtifactDetector().fit(H, y)
    return detector.decision_function(H)


def svm(F: torch.Tensor, y: torch.Tensor) -> Any:
    return influence.CrammerSingerSVM(C=1.0).fit(F, y).decision_function(F)


def density(data: torch.Tensor) -> Any:
    return metrics.KernelDensity(data, scale=0.5).log_density(data)


def cooccurring(codes: torch.Tensor) -> Any:
    found = concepts.Cooccurrence(4, top=3).update(codes)
    return found.relations().conditional(), found.relations().joint


BOTTLENECK = concepts.ConceptBottleneck


def bottleneck(concepts: torch.Tensor, classes: torch.Tensor) -> Any:
    return BOTTLENECK(concepts, classes).logits(H[:3].to(concepts))


def unlocked(features: torch.Tensor, targets: torch.Tensor) -> Any:
    return vision.TextUnlock(hidden=None, epochs=2).fit(features, targets, torch.eye(4)).transform(features)


def aligned(subject: torch.Tensor, atlas: torch.Tensor) -> Any:
    moments = concepts.PairedMoments().update(subject, atlas)
    maps = (moments.covariance(), moments.correlation(), moments.ridge(), moments.procrustes(columns="std"))
    return tuple(found.matrix for found in maps)


def mapped_back(fitted: torch.Tensor, subject: torch.Tensor) -> Any:
    found = concepts.PairedMoments().update(fitted, fitted[:, :3]).ridge()
    return found.to_atlas(subject), found.read_out(subject, torch.eye(3)), found.to_subject(torch.eye(3))


def shared_factor(H: torch.Tensor, y: torch.Tensor) -> Any:
    return probes.RidgeProbe().fit(H, y, factor=probes.SharedFactor(H)).decision_function(H)


def penalised(vectors: torch.Tensor, activation: torch.Tensor) -> Any:
    with torch.enable_grad():
        a = activation.detach().clone().requires_grad_()
        logits = torch.stack([a.sum((1, 2, 3)), a.square().sum((1, 2, 3))], 1)
        return correction.RRClArCLoss(vectors, target="all_logits", channel_axis=1)(logits, a)


def dropped(make: Callable[[], Any], relevance: torch.Tensor) -> Any:
    return make().mask(relevance, generator=seeded()).float()


def chained(mine: torch.Tensor, other: torch.Tensor) -> Any:
    stored = {(0, 0): mine, (0, 1): other, (1, 1): other}
    chain = pruning.TaskChain(n_trees=5, random_state=0, min_leaf=1).fit(stored)
    return chain.posterior([mine, mine]), chain.predict([mine, mine])


def net_of(make: Callable[[], nn.Module], x: torch.Tensor) -> Any:
    torch.manual_seed(0)
    return make().eval().to(x.dtype)(x)


def clients_of(inputs: torch.Tensor, targets: torch.Tensor) -> Any:
    clients = federated.Clients(inputs, targets, [np.arange(3), np.arange(3, len(inputs))])
    return clients.pooled()


AGGREGATORS: dict[str, Callable[[], Any]] = {
    **{name: getattr(federated, name) for name in "CoordinateMedian FedAvg FedAvgM FedLC FedProx RadonPoint".split()},
    **{name: getattr(federated, name) for name in "GeometricMedian Scaffold".split()},
    "DPFedAvg": lambda: federated.DPFedAvg(1.0, 0.5),
    "FedOpt": lambda: federated.FedOpt(variant="adam"),
    "TrimmedMean": lambda: federated.TrimmedMean(beta=0.2),
}
PROBES = (
    "FastCAV LDAProbe LassoProbe LogisticProbe MeanDifference MedianDifference PatternCAV RidgeProbe SVMProbe".split()
)
DROPOUTS = {
    name: lambda name=name: getattr(correction, name)(p=1.0)
    for name in "RandomErasing RelDropBlock RelDropPatch RelDropPixel".split()
}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ConceptAutoencoder": (lambda: nets.ConceptAutoencoder(4, 3), ()),
    "ConvNorm": (lambda: nets.ConvNorm(3, 4), (2, 3, 8, 8)),
    "EfficientNetLite0": (lambda: nets.EfficientNetLite0(n_classes=3), (2, 3, 32, 32)),
    "Lc0Net": (lambda: nets.Lc0Net(blocks=2, width=4, squeezed=2), (2, 112, 8, 8)),
    "PatchHead": (lambda: nets.PatchHead(3, 5, 2), (2, 4, 4, 3)),
    "PooledVGG": (lambda: nets.PooledVGG(3, 4), (2, 3, 16, 16)),
    "ResidualBlock": (lambda: nets.ResidualBlock(3, 4, 2), (2, 3, 8, 8)),
    "SqueezeBlock": (lambda: nets.SqueezeBlock(4, 2), (2, 4, 8, 8)),
    "SmallConv": (lambda: nets.SmallConv(3, 4, (16, 16)), (2, 3, 16, 16)),
    "SmallResNet": (lambda: nets.SmallResNet(3, 4), (2, 3, 16, 16)),
    "SmallVGG": (lambda: nets.SmallVGG(3, 4, 16), (2, 3, 16, 16)),
}


def virtual(vectors: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
    return circuits.virtual_neurons(H).split(activations, vectors)


TENSORS: dict[str, Row] = {
    "circuits.SplitLayer": lambda: {"x": H, "call": split_layer},
    **{f"federated.{n}": lambda make=make: {"w": rand(9, 3), "call": bound(merged, make)} for n, make in
       AGGREGATORS.items()},
    **{f"probes.{n}": lambda n=n: {"H": H, "y": Y, "call": bound(probed, getattr(probes, n))} for n in PROBES},
    **{f"correction.{n}": lambda make=make: {"relevance": rand(2, 8, 8), "call": bound(dropped, make)} for n, make in
       DROPOUTS.items()},
    **{f"nets.{n}": lambda make=make, shape=shape: {"x": rand(*shape), "call": bound(net_of, make)} for n, (make, shape)
       in NETS.items() if shape},
    "sae.SparseDict": lambda: {"x": H, "call": encoded},
    "sae.SparseCodes": lambda: {"x": H, "call": sparse_rows},
    "sae.TensorStream": lambda: {
        **{"x": H, "call": lambda x: [b for b in itertools.islice(sae.TensorStream(x, 8, generator=seeded()), 3)]}
    },
    "probes.Direction": lambda: {"x": H, "call": lambda x: (lambda d: (d.project(x), d.decision(x)))(
        probes.fit_direction(H, Y))},
    "probes.SharedFactor": lambda: {"H": H, "y": Y, "call": shared_factor},
    "correction.ArtifactDetector": lambda: {"H": H, "y": Y, "call": detected},
    "correction.RRClArCLoss": lambda: {"vectors": rand(2, 3), "activation": X, "call": penalised},
    "influence.CrammerSingerSVM": lambda: {"F": H, "y": Y, "call": svm},
    "influence.RandomProjection": lambda: {"x": H, "call": lambda x: influence.RandomProjection(3)(x)},
    "metrics.KernelDensity": lambda: {"data": H, "call": density},
    "lrp.ReferenceBank": lambda: {"values": MAPS, "call": lambda values: lrp.ReferenceBank(k=2).update(values).values},
    "concepts.ComponentIndex": lambda: {"vectors": H, "call": lambda vectors: concepts.ComponentIndex(vectors).query(
        H[:2].to(vectors), top=3)[0]},
    "concepts.ConceptBottleneck": lambda: {"concepts": H, "classes": rand(3, 4), "call": bottleneck},
    "vision.TextUnlock": lambda: {"features": H, "targets": H.softmax(1), "call": unlocked},
    "concepts.Cooccurrence": lambda: {"codes": H, "call": cooccurring},
    "concepts.LinearMap": lambda: {"subject": H, "call": lambda subject: mapped_back(H, subject)},
    "concepts.PairedMoments": lambda: {"subject": H, "atlas": rand(20, 3), "call": aligned},
    "circuits.VirtualNeurons": lambda: {"vectors": H, "activations": rand(20, 2), "call": virtual},
    "hooks.Projection": lambda: {"directions": rand(2, 4), "activation": H,
                                 "call": lambda directions, activation: hooks.Projection(directions)(activation)},
    "pruning.TaskChain": lambda: {"mine": H, "other": rand(20, 5)[:, 1:] * 2, "call": chained},
    "federated.Clients": lambda: {"inputs": H, "targets": Y, "call": clients_of},
}  # fmt: skip


# --- estimators of numpy ----------------------------------------------------------------------------------------
def mapped(make: Callable[[], Any], X: Any) -> Any:
    return np.asarray(make().fit(X).embedding_)


ESTIMATORS: dict[str, Row] = {
    "concepts.ClassPrototypes": lambda: {"X": TABLE, "y": BINARY, "call": lambda X, y: concepts.ClassPrototypes(
        n_prototypes=2, reg_covar=1e-2).fit(X, y).assign(X, y)},
    "embeddings.DTSNE": lambda: {"X": TABLE, "call": bound(mapped, lambda: embeddings.DTSNE(
        perplexity=3, max_iter=5, method="exact", random_state=0))},
    "embeddings.Mercat": lambda: {"X": TABLE, "call": bound(mapped, lambda: embeddings.Mercat(
        max_iter=3, random_state=0))},
    "patterns.Premise": lambda: {"X": TABLE > 0.3, "y": BINARY, "call": lambda X, y: patterns.Premise(
        alpha=1.0).fit(X, y).transform(X)},
    "probes.MeanDifference": lambda: {"H": TABLE, "y": BINARY, "call": lambda H, y: probes.MeanDifference().fit(
        H, y).decision_function(H)},
    "probes.LogisticProbe": lambda: {"H": TABLE, "y": BINARY, "call": lambda H, y: probes.LogisticProbe().fit(
        H, y).decision_function(H)},
}  # fmt: skip

KNOWN: dict[tuple[str, str], str] = {
    ("sae.SparseDict", "autocast"): "the caller's choice: rounding decides which of nearly equal codes are among the k",
    ("influence.TRAK", "twice"): "draws as many projections as the model has parameters, and the tied one has fewer",
    ("influence.TRAK", "weight norm"): "of its parameters' gradients, which are lengths and directions",
    ("sae.ActivationStream", "train"): "a training loop's; the model is the caller's",
    ("hooks.AxisFinder", "train"): "looks at shapes",
}
WITHOUT: dict[str, str] = {
    **dict.fromkeys(
        ("concepts.ChatJudge", "concepts.LexiconJudge"), "judges of texts; tests/concepts/test_descriptions.py"
    ),
    "circuits.ClassRelevance": "what class_relevance gives",
    **dict.fromkeys(("circuits.Circuit", "circuits.EdgeLayout"), "names and masks; tests/circuits/test_edges.py"),
    "circuits.EdgeGraph": "a transformer's, checked against the model at each call; tests/circuits/test_patched.py",
    **dict.fromkeys(("concepts.Hierarchy", "concepts.Relations", "concepts.ScoreSplit"), "what a function gives"),
    **dict.fromkeys(("concepts.Vocabulary", "concepts.TopPatches", "concepts.Names"), "what functions take and give"),
    **dict.fromkeys(("attribution.SecondOrder", "generative.CISResult", "sae.Units"), "what a function gives"),
    **dict.fromkeys(("attribution.AltiLogit", "probes.FinetuneHistory", "generative.Trajectory"), "what a run gives"),
    "attribution.Ensemble": "the explain_members row has it; tests/attribution/test_second_order.py",
    "correction.RelDropPoints": "RelDropPixel of points; tests/correction",
    "embeddings.JEDI": "fits with a prior; tests/embeddings/test_estimators.py",
    "embeddings.DescentSchedule": "numbers only",
    "embeddings.SparseKL": "a step of DTSNE",
    **{
        f"federated.{n}": "counts, seeds and plans, no tensors; tests/federated/test_select.py"
        for n in "ClassBalancedSelector ClusterSelector EntropySelector PowerOfChoice RandomSelector RoundRobin".split()
    },
    **{
        f"federated.{n}": "whole runs; tests/federated/test_simulate.py"
        for n in "ClientEvaluation DaisyChain Federation LocalTrainer LocalTraining Strategy Updates".split()
    },
    **{f"generative.{n}": "judges and pipelines; tests/generative" for n in "ClipJudge FactorJudge VQAJudge".split()},
    "generative.Sampler": "tiny pipelines of diffusers; tests/generative/test_later_pipelines.py",
    "hooks.TransformerParts": "names of modules",
    **dict.fromkeys(("lm.AgreementBatch", "lm.LayerContrast", "lm.PromptBatch", "lm.Roi"), "token ids; tests/lm"),
    "lm.ResidualStack": "names and functions; tests/lm/test_lens.py",
    "lm.RoleEmbedding": "token ids and roles of a causal model; tests/lm/test_roles.py",
    "lm.TwinContrast": "token ids and contexts of a model; tests/lm/test_contrast.py",
    **dict.fromkeys(("lrp.AttnLRP", "lrp.CPLRP"), "transformers; tests/lrp/test_families.py"),
    **dict.fromkeys(("lrp.LinearRule", "lrp.ElementwiseRule", "lrp.Rule"), "bases; tests/lrp/test_own_rules.py"),
    "lrp.MergeBatchNorm": "at work in every row of a composite",
    **{f"nets.{n}": "a net of its paper; tests/nets" for n in "ConceptAutoencoder ConceptJudge FactorCNN UNet".split()},
    **dict.fromkeys(("patterns.DiffNaps", "patterns.DiffNapsNet"), "trains; tests/patterns/test_diffnaps.py"),
    **dict.fromkeys(("patterns.Spotlight", "patterns.TransactionSet"), "texts and item sets; tests/patterns"),
    **{f"compendium.{n}": "reads files, no tensors; tests/compendium" for n in "Check Gate Measurement Paper".split()},
    **dict.fromkeys(("nets.Phoenix", "nets.StackedNet"), "tests/nets/test_phoenix.py, test_stacked.py"),
    **{
        f"nets.{n}": "tests/nets/test_bcos.py"
        for n in "AddInverse BcosConv2d BcosLinear SmallBcos UncentredNorm".split()
    },
    "probes.Probe": "a base, whose kinds have rows",
    **dict.fromkeys(("pruning.DashPruner", "pruning.Tickets"), "tests/pruning/test_dash.py, test_edge_popup.py"),
    "sae.SAEConfig": "numbers only",
    "vision.ZeroShotHead": "a CLIP model's; tests/vision/test_clip.py",
    **dict.fromkeys(("nets.PostNormBlock", "nets.PostNormPolicy"), "tokens of pieces; tests/nets/test_chess_nets.py"),
    **dict.fromkeys(("worlds.Ending", "worlds.InstructionWorld", "worlds.SepItem", "worlds.ShapesWorld"), "data"),
    "zoo.LoadedModel": "what a function gives",
    "zoo.Card": "a catalogue's entry",
}

"""A pruning curve beside as many plain evaluations, and beside the official code's way: a copy of the model per rate.

Rounds alternate between the contestants; the smallest time of each counts.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_lrp import Row, plain_cnn, row, seconds, vgg_like

from shared.lrp import AttnLRP, EpsilonPlus, answer, weight_relevance
from shared.nets import SmallResNet, build_net
from shared.pruning import (
    RATES,
    edge_popup,
    find_units,
    he_bias_,
    keep_masks,
    pruning_curve,
    random_scores,
    relevance_scores,
    weight_layers,
    weight_masks,
    weight_scores,
)


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes one round and fewer images."""
    rounds, images = (1, 16) if quick else (3, 128)
    curves = [*curve_rows(images, rounds), *score_rows(images // 8, rounds), *weight_rows(rounds)]
    return [*curves, *step_rows(rounds), *popup_rows(rounds)]


def copied(model: nn.Module, scores: dict[str, Tensor], x: Tensor) -> None:
    """Each rate on a fresh copy whose weights are masked for good."""
    for rate in RATES:
        pruned = copy.deepcopy(model)
        for name, mask in keep_masks(scores, rate).items():
            layer = pruned.get_submodule(name)
            for part in ("weight", "bias"):
                if getattr(layer, part) is not None:
                    shape = (-1, *[1] * (getattr(layer, part).ndim - 1))
                    prune.custom_from_mask(layer, part, mask.view(shape).expand_as(getattr(layer, part)))
                    prune.remove(layer, part)
        with torch.no_grad():
            pruned(x)


def curve_rows(images: int, rounds: int) -> list[Row]:
    """All rates of one curve."""
    rows = []
    torch.manual_seed(0)
    for label, model in (("VGG-like", vgg_like()), ("ResNet with batch norm", SmallResNet(3, 10).eval())):
        x, y = torch.rand(images, 3, 64, 64), torch.zeros(images, dtype=torch.int64)
        scores = random_scores(model, find_units(model, "filter"), generator=torch.Generator().manual_seed(0))

        def plain(model: nn.Module = model, x: Tensor = x) -> None:
            with torch.no_grad():
                for _ in RATES:
                    model(x)

        jobs = {
            "curve": lambda model=model, scores=scores, x=x, y=y: pruning_curve(model, scores, x, y),
            "plain": plain,
            "copies": lambda model=model, scores=scores, x=x: copied(model, scores, x),
        }
        best = seconds(jobs, rounds)
        where = f"pruning curve, {len(RATES)} rates, {label}, {images} images"
        rows.append(row(where, best["curve"], f"{len(RATES)} plain evaluations", best["plain"], 1.3))
        rows.append(row(where, best["curve"], "a copy per rate", best["copies"], None))
    return rows


def score_rows(images: int, rounds: int) -> list[Row]:
    """Relevance of all filters from one attribution."""
    model, x = vgg_like(), torch.rand(max(images, 2), 3, 64, 64)
    units, target = find_units(model, "filter"), torch.zeros(len(x), dtype=torch.int64)
    jobs = {
        "ours": lambda: relevance_scores(model, units, x, target, composite=EpsilonPlus()),
        "plain": lambda: plain_cnn(model, x, parameters=False),
    }
    best = seconds(jobs, rounds)
    return [row(f"relevance of all filters, {len(x)} images", best["ours"], "forward + backward", best["plain"], None)]


def weight_rows(rounds: int) -> list[Row]:
    """Relevance of all weights of a decoder's blocks, at every position of a text, from one backward pass."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "vocab_size": 1000}
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=8, num_key_value_heads=4, **sizes)).eval()
    names = [name for name in find_units(model, "neuron") if "proj" in name]
    ids = torch.randint(1000, (8, 64))

    def plain() -> None:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        goal = logits.gather(-1, ids[:, 1:, None]).sum()
        torch.autograd.grad(goal, [model.get_submodule(name).weight for name in names])

    jobs = {
        "ours": lambda: weight_relevance(model, names, [ids], answer(ids[:, 1:]), composite=AttnLRP()),
        "plain": plain,
    }
    best = seconds(jobs, rounds)
    where = f"relevance of {len(names)} weight matrices of a decoder, {ids.numel()} tokens"
    return [row(where, best["ours"], "forward + backward with weight gradients", best["plain"], 1.3)]


def step_rows(rounds: int) -> list[Row]:
    """One pruning step, scores and masks, of networks with ten million weights beside their forward and backward."""
    torch.manual_seed(0)
    dense = build_net("mlp", (784,), 10, hidden=(2400, 2400, 1000)).eval()
    rows = []
    for label, model, x in (
        ("dense", dense, torch.rand(512, 784)),
        ("ResNet-18", build_net("resnet18", (3, 32, 32), 10, norm="batch").eval(), torch.rand(16, 3, 32, 32)),
    ):
        target, layers = torch.arange(len(x)) % 10, weight_layers(model)

        def plain(model: nn.Module = model, x: Tensor = x, target: Tensor = target) -> None:
            torch.autograd.grad(nn.functional.cross_entropy(model(x), target), list(model.parameters()))

        def step(method: str, model: nn.Module = model, x: Tensor = x, target: Tensor = target) -> None:
            scores = weight_scores(model, weight_layers(model), x, target, method=method)
            weight_masks(scores, 0.1, empty="allow")

        jobs = {"snip": lambda step=step: step("snip"), "synflow": lambda step=step: step("synflow"), "plain": plain}
        best = seconds(jobs, rounds)
        count = sum(model.get_submodule(name).weight.numel() for name in layers) / 1e6
        for method in ("snip", "synflow"):
            where = f"pruning step by {method}, {label} of {count:.0f}M weights, {len(x)} rows"
            rows.append(row(where, best[method], "forward + backward", best["plain"], 1.5))
    return rows


def popup_rows(rounds: int, networks: int = 8) -> list[Row]:
    """Edge-popup of several networks side by side and one after the other."""
    layers = [m for a, b in ((2, 100), (100, 100), (100, 100), (100, 4)) for m in (nn.Linear(a, b), nn.ReLU())]
    nets = [he_bias_(copy.deepcopy(nn.Sequential(*layers[:-1]))) for _ in range(networks)]
    data = torch.rand(640, 2), torch.arange(640) % 4
    jobs = {
        "together": lambda: edge_popup(nets, *data, keep=0.3, epochs=1, batch_size=64),
        "alone": lambda: [edge_popup(net, *data, keep=0.3, epochs=1, batch_size=64) for net in nets],
    }
    best = seconds(jobs, rounds)
    return [row(f"edge-popup, {networks} networks", best["together"], "one by one", best["alone"], 0.8)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in run():
        print(line)

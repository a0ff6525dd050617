"""What attribution costs: beside a plain forward and backward pass of the same model, and beside zennit and lxt.

"plain, frozen": one forward and one backward pass of the untouched model to its input (pixels or embeddings),
parameters frozen: the least any gradient method can cost. "plain, with parameters": `loss.backward()` as a user calls
it, which also computes every parameter's gradient. Peers run the same composite on the same model and input. Rounds
alternate between the contestants; the smallest time of each counts.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from arithmetic import bound_of
from torch import Tensor, nn

from shared.attribution import alti_logit, raw_attention, rollout
from shared.lrp import (
    CPLRP,
    AnyLinear,
    AttnLRP,
    AvgPool,
    Composite,
    Epsilon,
    EpsilonAlpha2Beta1,
    EpsilonGammaBox,
    EpsilonPlus,
    Norm,
    attribute,
    contrast,
)

Row = dict[str, Any]
Job = Callable[[], Any]


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes smaller inputs and fewer rounds."""
    return [*language_rows(quick), *agreement_rows(quick), *cnn_rows(quick)]


def seconds(jobs: dict[str, Job], rounds: int) -> dict[str, float]:
    """Smallest time of each job over alternating rounds, after one warm-up of each."""
    best: dict[str, float] = {}
    for n in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if n:
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
    return best


def row(benchmark: str, ours: float, reference: str, theirs: float | None, aim: float | None, note: str = "") -> Row:
    ratio = None if theirs is None else ours / theirs
    times = dict(ours_s=ours, reference=reference, reference_s=theirs, ratio=ratio)
    return dict(benchmark=benchmark, **times, aim=aim, note=note)


# --- language model


def language_rows(quick: bool) -> list[Row]:
    """AttnLRP, CP-LRP and ALTI-Logit (which grows with the square of the length) on 4 x 128 tokens, a target each."""
    from shared import zoo

    try:
        model = zoo.load_model("smollm2-135m").model
    except zoo.AssetError as error:
        return [row("SmolLM2-135M", float("nan"), str(error), None, None)]
    batch, length = (2, 32) if quick else (4, 128)
    ids = torch.randint(100, 40_000, (batch, length), generator=torch.Generator().manual_seed(0))
    target = torch.arange(batch)
    jobs: dict[str, Job] = {
        "attnlrp": lambda: attribute(model, ids, target, composite=AttnLRP()),
        "cp": lambda: attribute(model, ids, target, composite=CPLRP()),
        "alti": lambda: alti_logit(model, ids, target),
        "frozen": lambda: plain_language(model, ids, target, parameters=False),
        "parameters": lambda: plain_language(model, ids, target, parameters=True),
    }
    peer = lxt_patches()
    if peer is not None:
        jobs["lxt"] = lambda: lxt_attribution(peer, model, ids, target)
    best = seconds(jobs, 2 if quick else 3)
    where = f"SmolLM2-135M {batch}x{length}"
    rows = []
    for name, label, aim in (("attnlrp", "AttnLRP", 1.3), ("cp", "CP-LRP", 1.3), ("alti", "ALTI-Logit", 2.0)):
        rows.append(row(f"{label}, {where}", best[name], "plain, frozen", best["frozen"], aim))
        rows.append(row(f"{label}, {where}", best[name], "plain, with parameters", best["parameters"], aim))
    reference = "lxt.efficient" if peer is not None else "lxt.efficient: peer not installed"
    return [*rows, row(f"AttnLRP, {where}", best["attnlrp"], reference, best.get("lxt"), 1.0)]


def agreement_rows(quick: bool) -> list[Row]:
    """Every method of papers/lrp_vs_alti on its sentences, as multiples of one forward and backward pass."""
    import numpy as np
    from captum.attr import InputXGradient, IntegratedGradients, Saliency

    from shared import zoo
    from shared.lm import agreement_batches
    from shared.worlds import agreement_sentences

    try:
        loaded = zoo.load_model("smollm2-135m")
    except zoo.AssetError as error:
        return [row("agreement sentences, SmolLM2-135M", float("nan"), str(error), None, None)]
    model = loaded.model.requires_grad_(False)
    sentences = agreement_sentences(8 if quick else 32, generator=np.random.default_rng(0), kinds=["preposition"])
    batch = max(agreement_batches(loaded.tokenizer, sentences), key=len)
    embeds = model.get_input_embeddings()(batch.ids).detach()
    target = contrast(batch.right, batch.wrong)

    def difference(e: Tensor) -> Tensor:
        logits = model(inputs_embeds=e, use_cache=False, logits_to_keep=1).logits[:, -1]
        return (logits * target(logits)).sum(-1)

    def gradient() -> Tensor:
        e = embeds.clone().requires_grad_()
        return torch.autograd.grad(difference(e).sum(), e)[0]

    jobs: dict[str, Job] = {
        "frozen": gradient,
        "ALTI-Logit": lambda: alti_logit(model, batch.ids, target),
        "AttnLRP": lambda: attribute(model, batch.ids, target, composite=AttnLRP()),
        "CP-LRP": lambda: attribute(model, batch.ids, target, composite=CPLRP()),
        "gradient": lambda: Saliency(difference).attribute(embeds.clone().requires_grad_()),
        "gradient x input": lambda: InputXGradient(difference).attribute(embeds.clone().requires_grad_()),
        "integrated gradients, 5 steps": lambda: IntegratedGradients(difference).attribute(
            embeds, n_steps=5, internal_batch_size=len(embeds)
        ),
        "attention rollout": lambda: rollout(raw_attention(model, batch.ids)),
    }
    best = seconds(jobs, 2 if quick else 3)
    where = f"SmolLM2-135M {len(batch)}x{batch.ids.shape[1]}"
    aims = {"ALTI-Logit": 1.0, "AttnLRP": 1.3, "CP-LRP": 1.3}
    plain = best.pop("frozen")
    return [row(f"{name}, {where}", took, "plain, frozen", plain, aims.get(name)) for name, took in best.items()]


def plain_language(model: nn.Module, ids: Tensor, target: Tensor, parameters: bool) -> Tensor:
    """Gradient times input of the last position's target logit."""
    for p in model.parameters():
        p.requires_grad_(parameters)
    try:
        embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=1).logits[:, 0]
        logits.gather(1, target[:, None]).sum().backward()
        return embeds.grad * embeds.detach()
    finally:
        for p in model.parameters():
            p.requires_grad_(True)
            p.grad = None


def lxt_patches() -> Any:
    """lxt's patch map for Llama, or None where it can't be imported (its release 2.1 fails under transformers 5)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("lxt.efficient")
            return importlib.import_module("lxt.efficient.models.llama").attnLRP
    except ImportError:
        return None


@contextmanager
def lxt_active(patches: Any) -> Iterator[None]:
    """lxt patches classes for good; put everything back, so that the other contestants stay plain."""
    from lxt.efficient import monkey_patch
    from transformers.models.llama import modeling_llama

    classes = [target for target in patches if isinstance(target, type)]
    forwards = [(target, target.forward) for target in classes]
    functions, eager = dict(modeling_llama.ALL_ATTENTION_FUNCTIONS.items()), modeling_llama.eager_attention_forward
    monkey_patch(modeling_llama, patches)
    try:
        yield
    finally:
        for target, forward in forwards:
            target.forward = forward
        modeling_llama.eager_attention_forward = eager
        for name, function in functions.items():
            modeling_llama.ALL_ATTENTION_FUNCTIONS[name] = function


def lxt_attribution(patches: Any, model: nn.Module, ids: Tensor, target: Tensor) -> Tensor:
    with lxt_active(patches):
        return plain_language(model, ids, target, parameters=False)


# --- convolutional network


def vgg_like() -> nn.Sequential:
    """Eight 3x3 convolutions with ReLU, three max-pools, two dense layers: the shape of VGG."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 32, "pool", 64, 64, "pool", 128, 128, "pool", 128, 128):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    head = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128 * 16, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers, *head).eval()


def cnn_rows(quick: bool) -> list[Row]:
    """Composites on a VGG-like net, 64x64 pixels; aims are never below what a composite's products allow."""
    torch.manual_seed(0)
    model, x = vgg_like(), torch.randn(2 if quick else 8, 3, 64, 64)
    rounds = 3 if quick else 10
    epsilon = Composite([(AnyLinear, Epsilon()), (AvgPool, Norm())])
    contestants = {
        "epsilon": (epsilon, 1.05),
        "epsilon_plus": (EpsilonPlus(), 1.5),
        "epsilon_gamma_box": (EpsilonGammaBox(-3.0, 3.0), 2.0),
        "epsilon_alpha2_beta1": (EpsilonAlpha2Beta1(), 2.0),
    }
    rows = []
    for name, (composite, aim) in contestants.items():
        jobs: dict[str, Job] = {
            "ours": lambda composite=composite: attribute(model, x, 1, composite=composite),
            "frozen": lambda: plain_cnn(model, x, parameters=False),
            "parameters": lambda: plain_cnn(model, x, parameters=True),
        }
        peer = zennit_composite(name, x)
        if peer is not None:
            jobs["zennit"] = lambda peer=peer: zennit_attribution(peer, model, x)
        bound, note = bound_of(jobs["ours"], jobs["frozen"])
        best = seconds(jobs, rounds)
        what = f"{name}, VGG-like {len(x)}x64x64"
        rows.append(row(what, best["ours"], "plain, frozen", best["frozen"], max(aim, round(bound, 2)), note))
        rows.append(row(what, best["ours"], "plain, with parameters", best["parameters"], None))
        reference = "zennit" if peer is not None else "zennit: peer not installed"
        rows.append(row(what, best["ours"], reference, best.get("zennit"), 1.0))
    return rows


def plain_cnn(model: nn.Module, x: Tensor, parameters: bool) -> Tensor:
    for p in model.parameters():
        p.requires_grad_(parameters)
    leaf = x.clone().requires_grad_()
    model(leaf)[:, 1].sum().backward()
    for p in model.parameters():
        p.requires_grad_(True)
        p.grad = None
    return leaf.grad


def stub_torchvision() -> None:
    """zennit imports two classes of torchvision; stand in for it where it is missing or built for another torch."""
    try:
        importlib.import_module("torchvision.models.resnet")
    except Exception:  # ImportError, or RuntimeError of a build for another torch
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        package, models, resnet = (types.ModuleType(f"torchvision{n}") for n in ("", ".models", ".models.resnet"))
        resnet.Bottleneck, resnet.BasicBlock = type("Bottleneck", (), {}), type("BasicBlock", (), {})
        package.models, models.resnet = models, resnet
        sys.modules.update({module.__name__: module for module in (package, models, resnet)})


def zennit_composite(name: str, x: Tensor) -> Any:
    """zennit's composite of this name, or None where zennit isn't installed."""
    if importlib.util.find_spec("zennit") is None:
        return None
    stub_torchvision()
    from zennit import composites, rules
    from zennit.types import Linear

    if name == "epsilon":
        return composites.LayerMapComposite([*composites.layer_map_base(), (Linear, rules.Epsilon())])
    if name == "epsilon_gamma_box":
        return composites.EpsilonGammaBox(low=torch.full_like(x, -3.0), high=torch.full_like(x, 3.0))
    return {"epsilon_plus": composites.EpsilonPlus, "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1}[name]()


def zennit_attribution(composite: Any, model: nn.Module, x: Tensor) -> Tensor:
    from zennit.attribution import Gradient

    with Gradient(model, composite) as attributor:
        return attributor(x, lambda y: torch.eye(y.shape[1])[1] * y)[1]


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))

"""Make the golden arrays for the LRP tests with zennit and lxt. Not run by CI.

Run from the repository root in a throw-away environment with torch, numpy, transformers 5.x, `zennit==0.5.1` and the
head of `rachtibat/LRP-eXplains-Transformers` (the released lxt 2.1 does not import under transformers 5):

    python tests/golden/make_lrp.py

Torchvision isn't needed: zennit imports two of its classes, for which an empty stand-in is put in place.
lxt patches classes for good, so each part runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent
EPS = 1e-12


def stub_torchvision() -> None:
    """Let zennit import without torchvision."""
    try:
        import torchvision.models.resnet  # noqa: F401
    except Exception:  # missing, or built for another torch
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        package, models, resnet = (types.ModuleType(f"torchvision{n}") for n in ("", ".models", ".models.resnet"))
        resnet.Bottleneck, resnet.BasicBlock = type("Bottleneck", (), {}), type("BasicBlock", (), {})
        package.models, models.resnet = models, resnet
        for module in (package, models, resnet):
            sys.modules[module.__name__] = module


def save(name: str, arrays: dict[str, np.ndarray | torch.Tensor]) -> None:
    numpy = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in arrays.items()}
    np.savez_compressed(FOLDER / name, **numpy)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights for the file: float32, exactly representable."""
    return {f"state.{k}": v.float() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def seeded(build: object) -> nn.Module:
    """The model in float64 with float32-representable weights, biases and norm statistics away from their defaults."""
    torch.manual_seed(0)
    model = build()
    for name, value in model.state_dict().items():
        if name.endswith("running_var") or ("norm" in name.lower() and name.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.3)
    return model.double().eval()


# --- zennit


def conv_net() -> nn.Module:
    """conv, relu, maxpool, strided grouped conv, relu, avgpool, linear."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


class ResidualNet(nn.Module):
    """Batch norms and a residual add (as a module, which zennit needs), and a linear layer that sees both signs.

    zennit keeps a merged batch norm's own eps, which scales by 1 / sqrt(1 + eps): so eps is tiny here.
    """

    def __init__(self) -> None:
        super().__init__()
        from zennit.layer import Sum

        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-14)
        self.relu1 = nn.ReLU()
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6, eps=1e-14)
        self.add = Sum()
        self.conv3, self.norm3 = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8, eps=1e-14)
        self.relu3 = nn.ReLU()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.norm1(self.conv1(x)))
        x = self.add(torch.stack([self.norm2(self.conv2(x)), x], dim=-1))  # both signs go into conv3
        return self.fc(self.pool(self.relu3(self.norm3(self.conv3(x)))).flatten(1))


class DeconvNet(nn.Module):
    """Signed inputs to a transposed and a 1-d convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, groups=2)
        self.down = nn.Conv1d(6, 5, 3, dilation=2)
        self.pool, self.fc = nn.AdaptiveAvgPool1d(1), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.down(self.up(x))).flatten(1))


def zennit_relevance(model: nn.Module, composite: object, x: torch.Tensor, target: int) -> torch.Tensor:
    from zennit.attribution import Gradient

    with Gradient(model, composite) as attributor:
        return attributor(x, lambda y: torch.eye(y.shape[1], dtype=y.dtype)[target] * y)[1].detach()


def zennit_rules(eps: float) -> dict[str, object]:
    from zennit import rules

    return {
        "epsilon": rules.Epsilon(eps),
        "epsilon_large": rules.Epsilon(0.25),
        "gamma": rules.Gamma(0.25, eps),
        "gamma_large": rules.Gamma(10.0, eps),
        "gamma_nobias": rules.Gamma(0.25, eps, zero_params=["bias"]),
        "zplus": rules.ZPlus(eps),
        "zplus_nobias": rules.ZPlus(eps, zero_params=["bias"]),
        "alpha2_beta1": rules.AlphaBeta(2, 1, eps),
        "alpha3_beta2_nobias": rules.AlphaBeta(3, 2, eps, zero_params=["bias"]),
    }


def zennit_composites(model: nn.Module, eps: float) -> dict[str, object]:
    from zennit import composites as c
    from zennit.canonizers import SequentialMergeBatchNorm

    kw = dict(stabilizer=eps, epsilon=eps, canonizers=[SequentialMergeBatchNorm()])
    box = torch.full((1, 3, 10, 10), 3.0, dtype=torch.float64)
    return {
        "epsilon_plus": c.EpsilonPlus(**kw),
        "epsilon_plus_flat": c.EpsilonPlusFlat(**kw),
        "epsilon_gamma_box": c.EpsilonGammaBox(low=-box, high=box, **kw),
        "epsilon_alpha2_beta1": c.EpsilonAlpha2Beta1(**kw),
        "epsilon_alpha2_beta1_flat": c.EpsilonAlpha2Beta1Flat(**kw),
        "first_wsquare": first_layer_composite(eps),
    }


def first_layer_composite(eps: float) -> object:
    from zennit import rules
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import SpecialFirstLayerMapComposite, layer_map_base
    from zennit.types import Linear

    return SpecialFirstLayerMapComposite(
        layer_map=[*layer_map_base(eps), (Linear, rules.Epsilon(eps))],
        first_map=[(Linear, rules.WSquare(eps))],
        canonizers=[SequentialMergeBatchNorm()],
    )


def make_zennit() -> None:
    stub_torchvision()
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.types import Linear

    for name, build, shape in (
        ("conv", conv_net, (2, 3, 10, 10)),
        ("residual", ResidualNet, (2, 3, 10, 10)),
        ("deconv", DeconvNet, (2, 4, 7)),
    ):
        model, x = seeded(build), torch.randn(shape, dtype=torch.float64)
        arrays = {"x": x, "output": model(x), **state(model)}
        if name != "residual":
            for rule_name, rule in zennit_rules(EPS).items():
                composite = LayerMapComposite([*layer_map_base(EPS), (Linear, rule)])
                arrays[f"rule.{rule_name}"] = zennit_relevance(model, composite, x, 1)
        if name != "deconv":
            for composite_name, composite in zennit_composites(model, EPS).items():
                arrays[f"composite.{composite_name}"] = zennit_relevance(model, composite, x, 1)
            for composite_name, composite in zennit_composites(model, 1e-6).items():
                arrays[f"default.{composite_name}"] = zennit_relevance(model, composite, x, 1)
        save(f"lrp_zennit_{name}.npz", arrays)


# --- lxt


def tiny_llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = dict(num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    sizes = dict(vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2, initializer_range=0.3)
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads))


def tiny_gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = dict(vocab_size=20, n_embd=16, n_layer=2, n_head=4, n_positions=16, initializer_range=0.3)
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))


def make_lxt(family: str, mode: str) -> None:
    import importlib

    from lxt.efficient import monkey_patch

    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    patches = importlib.import_module(f"lxt.efficient.models.{family}")
    monkey_patch(modeling, patches.attnLRP if mode == "attnlrp" else patches.cp_LRP)
    model = seeded({"llama": tiny_llama, "gpt2": tiny_gpt2}[family])
    ids = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(1))
    embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeds, use_cache=False).logits
    logits[:, -1, 3].sum().backward()
    arrays = {"ids": ids, "logits": logits[:, -1], "relevance": embeds * embeds.grad, **state(model)}
    save(f"lrp_lxt_{family}_{mode}.npz", arrays)


def make_lxt_ops() -> None:
    """The explicit operations of lxt, each with a random incoming relevance."""
    import lxt.explicit.functional as explicit

    torch.manual_seed(0)
    x, a, b = torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.randn(2, 6, 4)
    u, v, weight, bias = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.rand(8) + 0.5, torch.randn(8)
    x, a, b, u, v, weight, bias = (t.double() for t in (x, a, b, u, v, weight, bias))
    cases = {
        "softmax": ((x,), lambda x: explicit.softmax(x, -1, torch.float64)),
        "matmul": ((a, b), lambda a, b: explicit.matmul(a, b, epsilon=1e-12)),
        "product": ((u, v), lambda u, v: explicit.mul2(u, v)),
        "rms_norm": ((x,), lambda x: explicit.rms_norm_identity(x, weight, 1e-6)),
        "layer_norm": ((x,), lambda x: explicit.layer_norm_grad_fn.apply(x, weight, bias, 1e-6, 1e-12)),
    }
    arrays = {"weight": weight, "bias": bias}
    for name, (inputs, function) in cases.items():
        leaves = [t.clone().requires_grad_() for t in inputs]
        y = function(*leaves)
        incoming = torch.randn(y.shape, dtype=torch.float64)
        arrays[f"{name}.incoming"] = incoming
        for n, (leaf, r) in enumerate(zip(leaves, torch.autograd.grad(y, leaves, incoming))):
            arrays[f"{name}.input{n}"], arrays[f"{name}.relevance{n}"] = leaf, r
    save("lrp_lxt_ops.npz", arrays)


PARTS = ["zennit", "ops", "llama-attnlrp", "llama-cp", "gpt2-attnlrp", "gpt2-cp"]


def main(part: str | None = None) -> None:
    if part is None:
        for one in PARTS:
            subprocess.run([sys.executable, __file__, one], check=True)
    elif part == "zennit":
        make_zennit()
    elif part == "ops":
        make_lxt_ops()
    else:
        make_lxt(*part.split("-"))


if __name__ == "__main__":
    main(*sys.argv[1:])

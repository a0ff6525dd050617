"""`make preflight P=SLUG`: what the paper's own scale fetches and needs, counted without weights and without a GPU.

A card's `steps` name the passes that decide memory and time. Their models are built on the meta device, from the hub's
config.json where it can be read, else from the configuration the step names, and one pass is run there: tensors that
autograd saves have shapes but no data.
"""

from __future__ import annotations

import ast
import contextlib
import operator
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
import yaml
from torch import Tensor, nn

from shared._checks import check_choice
from shared.compendium.card import CardError, load_card
from shared.compendium.parameters import notebook_parameters
from shared.compendium.paths import PAPERS, known_papers

MODES = ("forward", "gradient", "training")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.{}-]*(?::[\w.-]+)?$")
_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_HEADS = {"tokens": "AutoModelForCausalLM", "encoder": "AutoModel", "pixels": "AutoModelForImageClassification"}


@dataclass(frozen=True)
class StepCost:
    """What one step of a paper's own scale costs.

    Parameters
    ----------
    step : its name in the card.
    model : the model's id.
    parameters : number of weights.
    weights_gb : GB (10⁹ bytes) of weights; in training with their gradients and two moments of Adam.
    saved_gb : GB that autograd keeps between forward and backward of one batch.
    passes : forward passes, each with its backward unless `mode` is "forward".
    mode : "forward", "gradient" (of the input, weights frozen) or "training".
    """

    step: str
    model: str
    parameters: int
    weights_gb: float
    saved_gb: float
    passes: float
    mode: str

    @property
    def peak_gb(self) -> float:
        """Weights and what is saved; the allocator and the largest product come on top."""
        return self.weights_gb + self.saved_gb


def evaluate(expression: str | float, values: Mapping[str, Any]) -> float:
    """An arithmetic expression over parameters, as a card writes it: `text_rows * 14 / batch_size`.

    `len(name)` counts a list. Raises `ValueError` for anything else, and for an unknown name.
    """
    if isinstance(expression, int | float):
        return expression

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.Name) and node.id in values:
            return values[node.id]
        if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _OPERATORS:
            parts = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.operand,)
            return _OPERATORS[type(node.op)](*map(value, parts))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "len" and len(node.args) == 1:
            return len(value(node.args[0]))
        raise ValueError(f"{expression!r} is no arithmetic over parameters; known: {', '.join(values)}")

    return value(ast.parse(expression, mode="eval").body)


def fetched(values: Any) -> list[str]:
    """Public ids among the values of parameters, nested ones too."""
    if isinstance(values, str):
        return [values] if _HUB_ID.match(values) else []
    nested = values.values() if isinstance(values, Mapping) else values if isinstance(values, list | tuple) else ()
    return list(dict.fromkeys(id for part in nested for id in fetched(part)))


def step_cost(step: Mapping[str, Any], values: Mapping[str, Any]) -> StepCost:
    """Count one step of a card on the meta device."""
    mode = check_choice("mode", step.get("mode", "gradient"), MODES)
    name = str(values.get(step["model"], step["model"]))
    dtype = getattr(torch, str(values.get(step.get("dtype"), step.get("dtype", "float32"))))
    model = _build(name, step, dtype)
    model.train(mode == "training").requires_grad_(mode == "training")
    inputs = _inputs(model, step, values, dtype)
    saved = 0 if mode == "forward" else saved_bytes(model, inputs)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return StepCost(
        step=step["step"],
        model=name,
        parameters=sum(p.numel() for p in model.parameters()),
        weights_gb=size * (4 if mode == "training" else 1) / 1e9,
        saved_gb=saved / 1e9,
        passes=evaluate(step.get("passes", 1), values),
        mode=mode,
    )


def saved_bytes(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of one forward, each storage once, weights left out."""
    own = {id(p.untyped_storage()): p for p in model.parameters()}
    kept: dict[int, Any] = {}
    weights = {p.untyped_storage()._cdata for p in own.values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that its address isn't used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(**inputs)
    del outputs
    return sum(storage.nbytes() for storage in kept.values())


def _build(name: str, step: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    config = _config(name, dict(step.get("config", {})))
    head = getattr(transformers, step.get("head") or _HEADS[check_choice("input", step.get("input"), _HEADS)])
    with torch.device("meta"):
        return head.from_config(config, dtype=dtype, attn_implementation="eager")


def _config(name: str, given: dict[str, Any]) -> transformers.PretrainedConfig:
    """The hub's configuration of `name`, or the one that the step spells out."""
    with contextlib.suppress(OSError, ValueError):
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    if "model_type" not in given:
        raise CardError(
            f"the configuration of {name} can't be read here; give its `config` with a model_type in the card"
        )
    return transformers.AutoConfig.for_model(**given)


def _inputs(
    model: nn.Module, step: Mapping[str, Any], values: Mapping[str, Any], dtype: torch.dtype
) -> dict[str, Tensor]:
    batch = int(evaluate(step.get("batch", 1), values))
    if step.get("input") == "pixels":
        side = int(evaluate(step.get("side", 224), values))
        return {"pixel_values": torch.empty(batch, 3, side, side, device="meta", dtype=dtype, requires_grad=True)}
    length = int(evaluate(step["length"], values))
    width = model.get_input_embeddings().embedding_dim
    return {"inputs_embeds": torch.empty(batch, length, width, device="meta", dtype=dtype, requires_grad=True)}


def _said(cost: StepCost) -> str:
    size = f"{cost.parameters / 1e6:,.0f} M weights; {cost.weights_gb:.1f} GB of weights"
    kept = f"{cost.saved_gb:.1f} GB saved for a backward pass: {cost.peak_gb:.1f} GB"
    return f"{cost.step}: {cost.model}, {size} and {kept}; {cost.passes:,.0f} {cost.mode} passes"


def preflight(slug: str) -> str:
    """The report for a paper, as text."""
    card = load_card(slug)
    named = yaml.safe_load((PAPERS / slug / "paper.yml").read_text(encoding="utf-8"))
    values = {**notebook_parameters(slug), **named}
    ids = fetched(named)
    lines = [f"{slug} at the paper's own scale", f"fetches: {', '.join(ids) or 'nothing from the hub'}"]
    costs = [step_cost(step, values) for step in card.raw.get("steps", [])]
    lines += [_said(cost) for cost in costs]
    if costs:
        lines.append(
            f"peak: {max(cost.peak_gb for cost in costs):.1f} GB; the allocator and the largest product on top"
        )
    else:
        lines.append("no step of a hub model is named in the card (`steps`)")
    return "\n".join([*lines, f"budget in the card: {card.raw['budget'].get('paper_scale', 'none')}"])


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(f"which paper? make preflight P=SLUG; known: {', '.join(known_papers()) or 'none'}")
    try:
        print("\n\n".join(map(preflight, sys.argv[1:])))
    except ValueError as error:
        sys.exit(str(error))

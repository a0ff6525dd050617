"""Capture, edit, patch and steer activations of any torch module by its name; everything is undone on exit.

>>> import torch
>>> from shared import hooks
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
>>> with hooks.capture(model, "0") as seen, hooks.steer(model, {"0": torch.ones(4)}, alpha=2.0):
...     logits = model(torch.zeros(5, 3))
>>> seen["0"].shape, bool((model(torch.zeros(5, 3)) == logits).all())
(torch.Size([5, 4]), False)
"""

from shared.hooks._attention import attention_modules, wrap_attention
from shared.hooks._batches import (
    batches,
    count_rows,
    graph_mode,
    model_device,
    padded_positions,
    refuse_training,
    run_model,
    take_rows,
)
from shared.hooks._channels import AxisFinder, find_channel_axis, module_axis, resolve_axis
from shared.hooks._core import capture, edit, find_module, first_tensor, patch, refuse_compiled
from shared.hooks._directions import Projection, ablated, moved_to, projected_out, span_basis, steered
from shared.hooks._heads import ablate_heads, capture_attention, capture_heads, edit_heads
from shared.hooks._parts import TransformerParts, transformer_parts
from shared.hooks._pool import pool
from shared.hooks._resume import resume_from
from shared.hooks._steering import ablate, move_to, project_out, steer

__all__ = [
    "AxisFinder",
    "Projection",
    "TransformerParts",
    "ablate",
    "ablate_heads",
    "ablated",
    "attention_modules",
    "batches",
    "capture",
    "capture_attention",
    "capture_heads",
    "count_rows",
    "edit",
    "edit_heads",
    "find_channel_axis",
    "find_module",
    "first_tensor",
    "graph_mode",
    "model_device",
    "module_axis",
    "move_to",
    "moved_to",
    "padded_positions",
    "patch",
    "pool",
    "project_out",
    "projected_out",
    "refuse_compiled",
    "refuse_training",
    "resolve_axis",
    "resume_from",
    "run_model",
    "span_basis",
    "steer",
    "steered",
    "take_rows",
    "transformer_parts",
    "wrap_attention",
]

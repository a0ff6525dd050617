"""Capture, edit, patch and steer activations of any torch module by its name; everything is undone on exit."""

from shared.hooks._attention import attention_modules, wrap_attention
from shared.hooks._channels import find_channel_axis, module_axis, resolve_axis
from shared.hooks._core import capture, edit, find_module, first_tensor, patch, steer
from shared.hooks._heads import ablate_heads, capture_attention, capture_heads, edit_heads
from shared.hooks._resume import resume_from

__all__ = [
    "ablate_heads",
    "attention_modules",
    "capture",
    "capture_attention",
    "capture_heads",
    "edit",
    "edit_heads",
    "find_channel_axis",
    "find_module",
    "first_tensor",
    "module_axis",
    "patch",
    "resolve_axis",
    "resume_from",
    "steer",
    "wrap_attention",
]

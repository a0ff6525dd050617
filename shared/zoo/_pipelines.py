"""`load_pipeline`: text-to-image pipelines of diffusers, the zoo's own and the hub's, by one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from shared._checks import check_choice
from shared.zoo._assets import AssetError, asset_dir
from shared.zoo._cards import all_cards
from shared.zoo._models import _check_device, _check_dtype
from shared.zoo.hub._fetch import hub_folder, is_hub_name


def load_pipeline(
    name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype | str = torch.float32, **options: Any
) -> Any:
    """Load a text-to-image pipeline of diffusers, its parts in eval mode and without gradients.

    From safetensors only, without remote code, without a safety checker, without progress bars.

    Parameters
    ----------
    name : a text-to-image asset of the zoo, a local folder, or a hub id.
    device : where its weights go.
    dtype : of its weights: float32, float64, bfloat16 or float16.
    **options : for `from_pretrained` (`variant="fp16"`, `revision=…`).

    Returns
    -------
    The pipeline, such as a `StableDiffusionPipeline`.

    Raises
    ------
    UnknownNameError, ValueError, AssetError
        As `load_model` does.
    """
    device, dtype = _check_device(device), _check_dtype(dtype)
    known = [card.name for card in all_cards().values() if card.loader == "load_pipeline"]
    if name not in known and not is_hub_name(name):
        check_choice("name", name, known)
    revision = options.pop("revision", None)
    folder = asset_dir(name) if name in known else hub_folder(name, "pipeline", revision=revision)
    return _load(folder, name, device, dtype, options)


def _load(folder: Path, name: str, device: torch.device, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    import diffusers

    index = folder / "model_index.json"
    if not index.is_file():
        raise AssetError(f"{name} has no model_index.json, so it is no pipeline of diffusers")
    if "safety_checker" in json.loads(index.read_text(encoding="utf-8")):
        options = {"safety_checker": None, "requires_safety_checker": False} | options
    options = {"low_cpu_mem_usage": False} | options  # the other way needs accelerate
    logging = diffusers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, **options
        )
    finally:
        if shown:
            logging.enable_progress_bar()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)

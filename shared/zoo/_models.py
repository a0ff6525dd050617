"""`load_model`: the zoo's own checkpoints, packaged real models and hub models by one call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_shape
from shared.zoo._architectures import ARCHITECTURES
from shared.zoo._assets import AssetError, asset_dir
from shared.zoo._cards import all_cards, names
from shared.zoo.hub._fetch import hub_folder, is_hub_name
from shared.zoo.hub._openclip import is_openclip, load_openclip

_HEADS = {
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForMaskedLM": "AutoModelForMaskedLM",
}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model")
_LOCAL = {"trust_remote_code": False, "local_files_only": True}


@dataclass(frozen=True)
class ModelInfo:
    """What a model is and how it wants its input.

    Parameters
    ----------
    name : the asset's, or the hub id or folder it was loaded from.
    architecture : name of its class, or of the zoo's own architecture.
    n_parameters : how many numbers were trained.
    source : where it is from.
    licence : None for a hub's.
    classes : names of its logits, or None.
    input_size : (C, H, W) of images; None for text models.
    mean, std : by which images in [0, 1] are normalised, per channel; None where they aren't.
    """

    name: str
    architecture: str
    n_parameters: int
    source: str
    licence: str | None = None
    classes: list[str] | None = field(default=None, repr=False)
    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model with what it takes to feed it.

    Parameters
    ----------
    model : the network, in eval mode.
    info : what it is.
    tokenizer : transformers'; None for a model that reads no text.
    """

    model: nn.Module = field(repr=False)
    info: ModelInfo
    tokenizer: Any = field(default=None, repr=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images as the model's input: minus `info.mean`, over `info.std`.

        Parameters
        ----------
        images : (B, C, H, W) or (C, H, W), floating, in [0, 1].

        Returns
        -------
        The same shape, dtype and device.

        Raises
        ------
        ValueError
            For a model without image normalisation, other channels, or values that aren't finite.
        """
        if self.info.mean is None or self.info.std is None:
            raise ValueError(f"{self.info.name} has no image normalisation; preprocess is for image models")
        channels = len(self.info.mean)
        check_shape("images", images, ("B", channels, "H", "W") if images.ndim != 3 else (channels, "H", "W"))
        if not images.is_floating_point():
            raise ValueError(f"images has dtype {images.dtype}; expected floating values in [0, 1]")
        check_finite("images", images)
        mean, std = (images.new_tensor(value)[:, None, None] for value in (self.info.mean, self.info.std))
        return (images - mean) / std


def available_models() -> list[str]:
    """The zoo's models; hub ids (`org/name`) and local folders work besides.

    Returns
    -------
    Names, sorted.
    """
    return names("model")


def load_model(
    name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype | str = torch.float32, **options: Any
) -> LoadedModel:
    """Load a model, in eval mode.

    A hub's is loaded through transformers' Auto classes, from safetensors only, without remote code; one that has only
    OpenCLIP's files (as LAION's) becomes transformers' `CLIPModel`.

    Parameters
    ----------
    name : one of `available_models()`, a local folder, or a hub id `org/name`.
    device : where its weights go.
    dtype : of its weights: float32, float64, bfloat16 or float16.
    **options : for `from_pretrained` (such as `attn_implementation="eager"`, `revision=…`); `auto=` names an Auto class
        in place of the one that the config's `architectures` choose.

    Returns
    -------
    A `LoadedModel`, with a tokenizer if the model reads text.

    Raises
    ------
    UnknownNameError
        For an unknown name.
    ValueError
        For a device or dtype that can't be used here, and for an asset that another function loads.
    AssetError
        For a model that isn't on this machine; says how to get it.
    """
    device, dtype = _check_device(device), _check_dtype(dtype)
    card = all_cards().get(name) if name in available_models() else None
    if card is None and not is_hub_name(name):
        check_choice("name", name, available_models())
    if card is not None and card.loader != "load_model":
        raise ValueError(f"name={name!r} is for {card.task}: zoo.{card.loader} loads it")
    folder = asset_dir(name) if card else hub_folder(name, "model", revision=options.get("revision"))
    described = {
        "name": name,
        "source": card.source if card else str(folder.name if folder.is_dir() else name),
        "licence": card.licence if card else None,
    }
    if is_openclip(folder):
        return _load_openclip(folder, described, device, dtype, options)
    config = _read_json(folder / "config.json", name)
    load = _load_own if config.get("architecture") in ARCHITECTURES else _load_transformers
    return load(folder, config, described, device, dtype, options)


def _load_own(
    folder: Path, config: dict, described: dict, device: torch.device, dtype: torch.dtype, options: dict
) -> LoadedModel:
    if options:
        raise TypeError(f"{described['name']} takes no options; got {', '.join(sorted(options))}")
    build, defaults = ARCHITECTURES[config["architecture"]]
    with torch.device("meta"):
        model = build(**config.get("arguments", {}))
    model.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
    model = model.to(device=device, dtype=dtype).eval()
    image = {**defaults, **{key: config[key] for key in ("input_size", "mean", "std") if key in config}}
    info = ModelInfo(
        architecture=config["architecture"],
        n_parameters=_count(model),
        classes=config.get("classes"),
        **{key: tuple(value) for key, value in image.items()},
        **described,
    )
    return LoadedModel(model, info)


def _load_openclip(
    folder: Path, described: dict, device: torch.device, dtype: torch.dtype, options: dict
) -> LoadedModel:
    if "auto" in options:
        raise TypeError(f"{described['name']} holds OpenCLIP's files, which are loaded as CLIPModel; leave auto= out")
    options = {key: value for key, value in options.items() if key != "revision"}
    with _quiet():
        model, image = load_openclip(folder, described["name"], dtype, **options)
        tokenizer = _tokenizer(folder)
    model = model.to(device).eval()
    info = ModelInfo(architecture="CLIPModel", n_parameters=_count(model), **image, **described)
    return LoadedModel(model, info, tokenizer)


def _load_transformers(
    folder: Path, config: dict, described: dict, device: torch.device, dtype: torch.dtype, options: dict
) -> LoadedModel:
    import transformers

    if not any(folder.glob("*.safetensors")):
        raise AssetError(
            f"{described['name']} has no safetensors weights; other formats aren't loaded (they may run code)"
        )
    architecture = (config.get("architectures") or ["unknown"])[0]
    by_head = next((auto for head, auto in _HEADS.items() if architecture.endswith(head)), "AutoModel")
    autos = [name for name in dir(transformers) if name.startswith("AutoModel")]
    auto = check_choice("auto", options.pop("auto", by_head), autos)
    options = {key: value for key, value in options.items() if key != "revision"}
    with _quiet():
        model = getattr(transformers, auto).from_pretrained(
            folder, dtype=dtype, use_safetensors=True, **_LOCAL, **options
        )
        tokenizer = _tokenizer(folder)
    model = model.to(device).eval()
    labels = getattr(model.config, "id2label", None) if architecture.endswith("Classification") else None
    info = ModelInfo(
        architecture=architecture,
        n_parameters=_count(model),
        classes=[labels[i] for i in sorted(labels)] if labels else None,
        **_image_input(folder, config),
        **described,
    )
    return LoadedModel(model, info, tokenizer)


def _tokenizer(folder: Path) -> Any:
    """The folder's tokenizer; None if it has none."""
    import transformers

    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return None
    return transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)


def _image_input(folder: Path, config: dict) -> dict[str, tuple]:
    """Input size and normalisation as the hub's image processor file states them; empty for text models."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return {}
    said = _read_json(file, folder.name)
    mean, std = said.get("image_mean"), said.get("image_std")
    if mean is None or std is None:
        return {}
    size = said.get("crop_size") or said.get("size") or config.get("image_size")
    side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
    return {"input_size": (len(mean), side, side), "mean": tuple(mean), "std": tuple(std)}


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AssetError(f"{name} has no {path.name}; a model folder holds config.json and safetensors") from None
    except ValueError:
        raise AssetError(f"{name}: {path.name} is no JSON") from None


def _check_device(device: str | torch.device) -> torch.device:
    """The device, if torch can put a tensor there."""
    try:
        checked = torch.device(device)
        torch.empty(0, device=checked)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        here = ["cpu"] + [
            d for d in ("cuda", "mps", "xpu") if getattr(torch, d, None) and getattr(torch, d).is_available()
        ]
        raise ValueError(f"device={device!r} can't be used here; usable: {', '.join(here)}") from None
    return checked


def _check_dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if isinstance(dtype, str):
        return known[check_choice("dtype", dtype, known)]
    return check_choice("dtype", dtype, known.values())


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars, which would land in every notebook."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

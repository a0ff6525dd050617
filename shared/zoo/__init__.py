"""Models and data sets by name, each with a provenance card: real ones from packages, small ones made by recipes.

>>> from shared.zoo import describe, load_data, load_model
>>> digits = load_data("digits", split="test")
>>> tuple(digits.x.shape), digits.classes[:3]
((360, 64), ('0', '1', '2'))
>>> resnet = load_model("resnet-fashion")
>>> images = load_data("fashion-mnist", split="test").x[:4]
>>> tuple(resnet.model(resnet.preprocess(images)).shape)
(4, 10)
>>> describe("digits").licence
'CC BY 4.0 (UCI)'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.zoo._assets import AssetError, fetch
    from shared.zoo._cards import Card, describe
    from shared.zoo._data import available_data, load_data
    from shared.zoo._dictionaries import dictionary_folder
    from shared.zoo._kinds import ArrayData, Data, FrameData, ImageData, PhotoData, TableData, TextData
    from shared.zoo._models import LoadedModel, ModelInfo, available_models, load_model
    from shared.zoo._pipelines import load_pipeline
    from shared.zoo._text import embed_texts, generate_texts
    from shared.zoo.hub._fetch import clone_folder, hub_folder

# Imported when first asked for: `make assets` shouldn't wait for torch.
_MODULES = {
    "_assets": ("AssetError", "fetch"),
    "_cards": ("Card", "describe"),
    "_data": ("available_data", "load_data"),
    "_dictionaries": ("dictionary_folder",),
    "hub._fetch": ("clone_folder", "hub_folder"),
    "_kinds": ("ArrayData", "Data", "FrameData", "ImageData", "PhotoData", "TableData", "TextData"),
    "_models": ("LoadedModel", "ModelInfo", "available_models", "load_model"),
    "_pipelines": ("load_pipeline",),
    "_text": ("embed_texts", "generate_texts"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


__all__ = [
    "ArrayData",
    "AssetError",
    "Card",
    "Data",
    "FrameData",
    "ImageData",
    "LoadedModel",
    "ModelInfo",
    "PhotoData",
    "TableData",
    "TextData",
    "available_data",
    "available_models",
    "clone_folder",
    "describe",
    "dictionary_folder",
    "embed_texts",
    "fetch",
    "generate_texts",
    "hub_folder",
    "load_data",
    "load_model",
    "load_pipeline",
]

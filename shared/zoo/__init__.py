"""Models and data sets by name, each with a provenance card: real ones from packages, small ones made by recipes."""

from shared.zoo._assets import AssetError, fetch
from shared.zoo._cards import Card, describe
from shared.zoo._data import Data, available_data, load_data
from shared.zoo._hub import hub_folder
from shared.zoo._models import LoadedModel, ModelInfo, available_models, load_model
from shared.zoo._text import embed_texts

__all__ = [
    "AssetError",
    "Card",
    "Data",
    "LoadedModel",
    "ModelInfo",
    "available_data",
    "available_models",
    "describe",
    "embed_texts",
    "fetch",
    "hub_folder",
    "load_data",
    "load_model",
]

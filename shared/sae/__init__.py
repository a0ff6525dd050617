"""Sparse dictionaries of activations: autoencoders and transcoders, their training, metrics, files, and splicing.

`SparseDict(SAEConfig(...))` is a dictionary, `fit(sae, stream, steps)` trains it, `save`/`load` speak SAELens's format,
`splice` puts it into a model, `metrics` judge it. Rows of activations are `(…, d_in)`, codes `(…, d_sae)`.
"""

from shared.sae import metrics
from shared.sae._config import ARCHITECTURES, SAEConfig, group_widths
from shared.sae._files import load, save
from shared.sae._losses import TrainOut
from shared.sae._model import SAEOutput, SparseDict, Stats
from shared.sae._readers import load_dictionary_learning, load_prisma, load_sparsify
from shared.sae._sparse import SparseCodes
from shared.sae._splice import splice
from shared.sae._streams import (
    ActivationStream,
    TensorStream,
    open_activations,
    run_model,
    select_tokens,
    write_activations,
)
from shared.sae._train import History, default_lr, fit, geometric_median

__all__ = [
    "ARCHITECTURES",
    "ActivationStream",
    "History",
    "SAEConfig",
    "SAEOutput",
    "SparseCodes",
    "SparseDict",
    "Stats",
    "TensorStream",
    "TrainOut",
    "default_lr",
    "fit",
    "geometric_median",
    "group_widths",
    "load",
    "load_dictionary_learning",
    "load_prisma",
    "load_sparsify",
    "metrics",
    "open_activations",
    "run_model",
    "save",
    "select_tokens",
    "splice",
    "write_activations",
]

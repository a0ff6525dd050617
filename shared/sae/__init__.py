"""Sparse dictionaries of activations: autoencoders and transcoders, their training, metrics, files, and splicing.

`SparseDict(SAEConfig(...))` is a dictionary, `fit(sae, stream, steps)` trains it, `save`/`load` speak SAELens's format,
`splice` puts it into a model, `metrics` judge it; `set_feature`, `suppress`, … are edits for `splice`, `steer_units`
and `steerability` say what single latents do to the output. Rows of activations are `(…, d_in)`, codes `(…, d_sae)`.
"""

from shared.sae import metrics
from shared.sae._config import ARCHITECTURES, SAEConfig, group_widths
from shared.sae._files import load, save
from shared.sae._losses import TrainOut
from shared.sae._model import SAEOutput, SparseDict, Stats
from shared.sae._readers import load_dictionary_learning, load_prisma, load_sparsify
from shared.sae._sparse import SparseCodes
from shared.sae._splice import edit_codes, splice
from shared.sae._steering import (
    Steerability,
    Units,
    ablate_direction,
    add_direction,
    contrast,
    coverage,
    feature_units,
    is_steerable,
    match_mass,
    neuron_units,
    random_units,
    rank_by_contrast,
    scale_feature,
    set_feature,
    steer_units,
    steerability,
    step_size,
    suppress,
)
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
    "Steerability",
    "TensorStream",
    "TrainOut",
    "Units",
    "ablate_direction",
    "add_direction",
    "contrast",
    "coverage",
    "default_lr",
    "edit_codes",
    "feature_units",
    "fit",
    "geometric_median",
    "group_widths",
    "is_steerable",
    "load",
    "load_dictionary_learning",
    "load_prisma",
    "load_sparsify",
    "match_mass",
    "metrics",
    "neuron_units",
    "open_activations",
    "random_units",
    "rank_by_contrast",
    "run_model",
    "save",
    "scale_feature",
    "select_tokens",
    "set_feature",
    "splice",
    "steer_units",
    "steerability",
    "step_size",
    "suppress",
    "write_activations",
]

"""Sparse dictionaries of activations: autoencoders and transcoders, their training, metrics, files, and splicing.

>>> import torch
>>> from shared.sae import SAEConfig, SparseDict, TensorStream, fit, metrics
>>> x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
>>> sae = SparseDict(SAEConfig("topk", d_in=8, d_sae=32, k=4), generator=torch.Generator().manual_seed(0))
>>> history = fit(sae, TensorStream(x, 64), 200, lr=1e-2, progress=False)
>>> out = sae(x)
>>> metrics.explained_variance(x, out.x_hat) > 0.8, metrics.l0(out.codes) <= 4
(True, True)

`save`/`load` speak SAELens's format, `splice` puts a dictionary into a model, `metrics` judge it; `set_feature`,
`suppress`, … are edits for `splice`, `steer_units` and `steerability` say what single latents do to the output. Rows of
activations are `(…, d_in)`, codes `(…, d_sae)`. A new architecture is a file in `architectures`.
"""

from shared.sae import metrics
from shared.sae._config import SAEConfig, group_widths
from shared.sae._model import SAEOutput, SparseDict
from shared.sae._normalise import RowStats
from shared.sae._sparse import SparseCodes
from shared.sae._splice import edit_codes, splice
from shared.sae.architectures import ARCHITECTURES
from shared.sae.architectures._base import TrainOut
from shared.sae.files._others import load_dictionary_learning, load_gemma_scope, load_prisma, load_sparsify
from shared.sae.files._saelens import load, save
from shared.sae.steering._edits import scale_feature, set_feature, suppress
from shared.sae.steering._steerability import Steerability, coverage, is_steerable, steerability
from shared.sae.steering._suppression import code_contrast, match_mass, rank_by_contrast
from shared.sae.steering._units import Units, feature_units, neuron_units, random_units, steer_units, step_size
from shared.sae.training._fit import fit
from shared.sae.training._run import SAEHistory
from shared.sae.training._settings import default_lr
from shared.sae.training._store import open_activations, write_activations
from shared.sae.training._streams import ActivationStream, TensorStream, select_tokens

__all__ = [
    "ARCHITECTURES",
    "ActivationStream",
    "RowStats",
    "SAEConfig",
    "SAEHistory",
    "SAEOutput",
    "SparseCodes",
    "SparseDict",
    "Steerability",
    "TensorStream",
    "TrainOut",
    "Units",
    "code_contrast",
    "coverage",
    "default_lr",
    "edit_codes",
    "feature_units",
    "fit",
    "group_widths",
    "is_steerable",
    "load",
    "load_dictionary_learning",
    "load_gemma_scope",
    "load_prisma",
    "load_sparsify",
    "match_mass",
    "metrics",
    "neuron_units",
    "open_activations",
    "random_units",
    "rank_by_contrast",
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

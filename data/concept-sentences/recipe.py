"""Hidden states of SmolLM2 for sentences whose grammar is known, small enough to ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shared.lm import mean_states
from shared.worlds import TEXT_CONCEPTS, concept_sentences
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

NAME = "concept-sentences"
MODEL, LAYER = "smollm2-135m", "model.layers.14"  # the middle of 30 blocks, fixed beforehand
PER_COMBINATION = 48  # of each of the 64 combinations of labels
SEED = 0


@recipe(NAME)
def make(folder: Path) -> None:
    """Write labels, texts, and the states as whole numbers of −127 … 127, each dimension at its own scale."""
    Y = np.array([[i >> bit & 1 for bit in range(len(TEXT_CONCEPTS))] for i in range(2 ** len(TEXT_CONCEPTS))])
    Y = np.repeat(Y, PER_COMBINATION, axis=0)
    texts = concept_sentences(Y, generator=np.random.default_rng(SEED))
    loaded = load_model(MODEL)
    loaded.model.model.layers = loaded.model.model.layers[: int(LAYER.split(".")[-1]) + 1]  # the rest isn't needed
    with one_thread(), torch.no_grad():
        states = mean_states(loaded, LAYER, texts).double().numpy()
    mean = states.mean(0)
    scale = np.abs(states - mean).max(0) / 127
    arrays = {
        "vectors": np.rint((states - mean) / scale).astype(np.int8),
        "mean": mean.astype(np.float32),
        "scale": scale.astype(np.float32),
        "labels": Y.astype(np.uint8),
        "concepts": np.array(TEXT_CONCEPTS),
        "texts": np.array(texts),
    }
    write_arrays(folder / f"{NAME}.npz", arrays)

"""Shipped hidden states belong to their sentences."""

import numpy as np
import pytest
import torch

from shared import lm, probes, worlds, zoo
from shared.compendium.paths import cache_dir
from shared.stats import auroc
from shared.zoo import recipes

recipe = recipes.module("concept-sentences")


def test_states_labels_and_texts_fit():
    data = zoo.load_data("concept-sentences")
    assert data.x.shape == (64 * recipe.PER_COMBINATION, 576)
    assert data.classes == worlds.TEXT_CONCEPTS
    generator = np.random.default_rng(recipe.SEED)
    assert list(data.names) == worlds.concept_sentences(data.y.numpy(), generator=generator)
    counts = (data.y * 2 ** torch.arange(6)).sum(1).bincount()
    assert counts.tolist() == [recipe.PER_COMBINATION] * 64


@pytest.mark.skipif(not (cache_dir() / "smollm2-135m").is_dir(), reason="needs make assets")
def test_some_states_computed_anew():
    data = zoo.load_data("concept-sentences")
    rows = [3, 1000, 3000]
    states = lm.mean_states(zoo.load_model("smollm2-135m"), recipe.LAYER, [data.names[i] for i in rows])
    step = (data.x.amax(0) - data.x.amin(0)) / 200  # at least half of a whole number's step
    assert float(((states - data.x[rows]).abs() / step).max()) < 1.3


def test_concepts_are_readable_as_the_card_says():
    data = zoo.load_data("concept-sentences")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    fit, held = order.chunk(2)
    W = probes.PatternCAV().fit((data.x / data.x.std(0))[fit], data.y[fit].float()).coef_
    area = auroc((data.x / data.x.std(0))[held].double() @ W.T, data.y[held])
    said = zoo.describe("concept-sentences").tested[1]["measured"]
    assert float(area.min()) == pytest.approx(said, abs=0.01)

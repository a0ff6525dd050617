"""Arguments of `shared.concepts`' functions."""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from shared.nets import SmallBcos
from shared.sae import SAEConfig, SparseDict
from tests.bad_input.good import Calls, rand

TEXT = normalize(rand(2, 3), dim=1)
DECODER = {"W_dec": rand(4, 3), "b_dec": rand(3)}
WORDS = ["river lake", "river water", "film actor", "film star"]
RATINGS = torch.tensor([[2, 0], [0, 2], [1, 1], [0, 2], [2, 0], [0, 0]])
SAE = SparseDict(SAEConfig("topk", 4, 8, k=2, biases=False), generator=torch.Generator().manual_seed(0))


def traced() -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallBcos(2, 3, widths=(4, 4), strides=(1, 1)).eval()
    return {"model": model, "layer": "features.0", "sae": SAE, "channel_axis": 1}


GOOD: Calls = {
    "clarity": lambda: {"natural": rand(6, 2), "synthetic": rand(3, 2)},
    "class_scores": lambda: {"features": rand(2, 3, 3), "text": TEXT},
    "concept_consistency": lambda: {"encodings": rand(2, 3, 4), "presence": rand(2, 3)},
    "concept_vectors": lambda: {**DECODER, "mean_codes": rand(4, 4), "strength": rand(4, 4)},
    "describe_by_tfidf": lambda: {"activations": rand(4, 2), "texts": WORDS, "n_top": 2, "min_texts": 1},
    "implication_components": lambda: {"implied": rand(4, 4) > 0.5},
    "implications": lambda: {"strength": rand(4, 4)},
    "max_pool": lambda: {"codes": rand(2, 2, 2, 4)},
    "pooled_features": lambda: {"maps": rand(2, 3, 3), "features": rand(2, 5, 3, 3)},
    "probe_contributions": lambda: {"pooled": rand(2, 4), "weight": rand(3, 4)},
    "ratings_by_similarity": lambda: {"texts": rand(4, 3), "concepts": rand(2, 3), "vague": 0.2, "clear": 0.9},
    "responsiveness_purity": lambda: {"activations": rand(6, 2), "ratings": RATINGS},
    "sample_by_activation": lambda: {"activations": rand(40), "n": 10, "generator": np.random.default_rng(0)},
    "segment_by_text": lambda: {"features": rand(2, 3, 3, 3), "text": TEXT, "size": (6, 6)},
    "semantic_lens_map": lambda: {"subject": rand(6, 3), "atlas": rand(6, 2), "n_top": 2},
    "separation": lambda: {"activations": rand(6, 2), "positive": RATINGS == 2, "among": RATINGS != 1},
    "split_scores": lambda: {"codes": rand(5, 4), **DECODER, "text": TEXT},
    "trace_concepts": lambda: {**traced(), "x": rand(2, 4, 5, 5), "target": torch.tensor([0, 2])},
    "trace_inputs": lambda: {**traced(), "x": rand(2, 4, 5, 5), "concept": torch.tensor([0, 2])},
}
ELSEWHERE = {
    "name_concepts": "a vocabulary; tests/concepts/test_naming.py",
    "filter_concepts": "words; tests/concepts/test_bottleneck.py",
}
ANY_RANK = {("class_scores", "features"), ("split_scores", "codes"), ("trace_concepts", "x"), ("trace_inputs", "x")}

"""Arguments of `shared.concepts`' functions."""

from torch.nn.functional import normalize

from tests.bad_input.good import Calls, rand

TEXT = normalize(rand(2, 3), dim=1)
DECODER = {"W_dec": rand(4, 3), "b_dec": rand(3)}
GOOD: Calls = {
    "class_scores": lambda: {"features": rand(2, 3, 3), "text": TEXT},
    "concept_vectors": lambda: {**DECODER, "mean_codes": rand(4, 4), "strength": rand(4, 4)},
    "implication_components": lambda: {"implied": rand(4, 4) > 0.5},
    "implications": lambda: {"strength": rand(4, 4)},
    "max_pool": lambda: {"codes": rand(2, 2, 2, 4)},
    "probe_contributions": lambda: {"pooled": rand(2, 4), "weight": rand(3, 4)},
    "segment_by_text": lambda: {"features": rand(2, 3, 3, 3), "text": TEXT, "size": (6, 6)},
    "split_scores": lambda: {"codes": rand(5, 4), **DECODER, "text": TEXT},
}
ELSEWHERE = {"name_concepts": "a vocabulary; tests/concepts/test_naming.py"}
ANY_RANK = {("class_scores", "features"), ("split_scores", "codes")}

"""Arguments of `shared.lm`'s functions."""

from tests.bad_input.good import Calls, rand

GOOD: Calls = {
    "dola_logits": lambda: {"logits": rand(2, 5), "early": rand(3, 2, 5)},
    "guided_choice": lambda: {"logits": rand(2, 5), "relevance": rand(2, 5)},
}
ELSEWHERE = {"roi_relevance": "takes a mapping of token ids; tests/lm/test_guided.py spoils the region"}

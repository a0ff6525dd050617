"""Arguments of `shared.lm`'s functions."""

import torch

from tests.bad_input.good import Calls, rand

GOOD: Calls = {
    "contrast_logits": lambda: {"logits": rand(2, 5), "twins": rand(3, 2, 5)},
    "dola_logits": lambda: {"logits": rand(2, 5), "early": rand(3, 2, 5)},
    "tuned_lens": lambda: {"states": rand(3, 6, 4)},
    "guided_choice": lambda: {"logits": rand(2, 5), "relevance": rand(2, 5)},
    "matched_keys": lambda: {
        "keys": rand(2, 5) > 0.5,
        "allowed": rand(2, 5) <= 0.5,
        "received": rand(2, 5),
        "generator": torch.Generator(),
    },
    "turn_pairs": lambda: {"x": rand(2, 4), "angle": 0.5},
}
ANY_RANK = {("turn_pairs", "x")}
ELSEWHERE = {
    "contrast": "takes the prompts' mask; tests/lm/test_contrast.py spoils it",
    "edit_attention": "takes marks of tokens; tests/lm/test_edits.py spoils them",
    "assign_roles": "takes a language model; tests/lm/test_roles.py spoils the roles",
    "role_embeds": "takes a language model; tests/lm/test_roles.py spoils the roles",
    "roi_relevance": "takes a mapping of token ids; tests/lm/test_guided.py spoils the region",
    "logit_lens": "takes a model and its stack; tests/lm/test_lens.py",
    "residual_stack": "finds names; tests/lm/test_lens.py",
    "residual_states": "takes a model and its stack; tests/lm/test_lens.py",
}

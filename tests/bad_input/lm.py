"""Arguments of `shared.lm`'s functions."""

import torch
from torch import Tensor, nn

from shared.lm import logit_difference
from tests.bad_input.good import Calls, rand


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=9, initializer_range=0.5, pad_token_id=0)).eval()


def ids(seed: int = 0) -> Tensor:
    return torch.randint(1, 9, (2, 4), generator=torch.Generator().manual_seed(seed))


TOKENS = {"right": torch.tensor([3, 4]), "wrong": torch.tensor([5, 6])}
METRIC = logit_difference(**TOKENS)
GOOD: Calls = {
    "contrast_logits": lambda: {"logits": rand(2, 5), "twins": rand(3, 2, 5)},
    "dola_logits": lambda: {"logits": rand(2, 5), "early": rand(3, 2, 5)},
    "tuned_lens": lambda: {"states": rand(3, 6, 4)},
    "direct_logit_attribution": lambda: {"model": llama(), "x": ids(), "target": TOKENS["right"], "heads": True},
    "head_ablation": lambda: {"model": llama(), "x": ids(), "metric": METRIC, "values": rand(2, 2, 4)},
    "head_means": lambda: {"model": llama(), "x": ids()},
    "logit_difference": lambda: dict(TOKENS),
    "patching_grid": lambda: {"model": llama(), "clean": ids(), "corrupt": ids(1), "metric": METRIC},
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
    "continue_texts": "takes functions of tensors and a loaded model; tests/lm/test_peaks.py",
    "contrast": "takes the prompts' mask; tests/lm/test_contrast.py spoils it",
    "edit_attention": "takes marks of tokens; tests/lm/test_edits.py spoils them",
    "assign_roles": "takes a language model; tests/lm/test_roles.py spoils the roles",
    "role_embeds": "takes a language model; tests/lm/test_roles.py spoils the roles",
    "roi_relevance": "takes a mapping of token ids; tests/lm/test_guided.py spoils the region",
    "logit_lens": "takes a model and its stack; tests/lm/test_lens.py",
    "residual_stack": "finds names; tests/lm/test_lens.py",
    "residual_states": "takes a model and its stack; tests/lm/test_lens.py",
}
FEWER = {("direct_logit_attribution", "target")}  # one token for all rows

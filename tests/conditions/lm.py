"""Conditions of `shared.lm`: none of its functions computes with arrays."""

WITHOUT = dict.fromkeys(
    (
        "agreement_batches",
        "mean_states",
        "single_token",
        "start_token",
        "token_ids",
    ),
    "a tokenizer's; tests/lm",
)

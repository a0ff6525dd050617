"""Conditions of `shared.lm`'s functions."""

KNOWN = {("head_ablation", "bfloat16"): "a small difference of two logits, each rounded to 8 bits"}
WITHOUT = {
    "attention_maps": "collects from a language model; tests/lm/test_edits.py",
    "dola": "makes an object for a language model; tests/lm/test_dola.py",
    "head_groups": "looks at the config only; tests/lm/test_grids.py",
    "guide": "makes an object for a language model; tests/lm/test_guided.py",
}

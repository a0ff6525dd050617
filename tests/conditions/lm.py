"""Conditions of `shared.lm`'s functions."""

WITHOUT = {
    "attention_maps": "collects from a language model; tests/lm/test_edits.py",
    "dola": "makes an object for a language model; tests/lm/test_dola.py",
    "guide": "makes an object for a language model; tests/lm/test_guided.py",
}

"""Conditions of `shared.lm`'s functions."""

WITHOUT = {
    "dola": "makes an object for a language model; tests/lm/test_dola.py",
    "guide": "makes an object for a language model; tests/lm/test_guided.py",
}

"""Arguments of `shared.lm`'s functions: none takes a tensor."""

from tests.bad_input.good import Calls

GOOD: Calls = {}

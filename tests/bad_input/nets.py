"""Arguments of `shared.nets`' functions: none takes a tensor."""

from tests.bad_input.good import Calls

GOOD: Calls = {}

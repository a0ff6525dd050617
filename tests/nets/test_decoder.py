"""The small decoder is a Llama: seeded, causal, and the rooms for language models take it."""

import pytest
import torch

from shared import hooks, lrp
from shared.nets import small_decoder


def decoder(seed=0):
    return small_decoder(20, layers=2, heads=2, width=16, generator=torch.Generator().manual_seed(seed))


def test_the_generator_gives_the_weights():
    before = torch.get_rng_state()
    first, again, other = (decoder(seed) for seed in (0, 0, 1))
    ids = torch.arange(12).reshape(2, 6)
    assert first(ids).logits.shape == (2, 6, 20)
    assert torch.equal(first(ids).logits, again(ids).logits)
    assert not torch.equal(first(ids).logits, other(ids).logits)
    assert torch.equal(before, torch.get_rng_state())


def test_what_comes_later_changes_nothing_before():
    model, ids = decoder(), torch.arange(6)[None]
    changed = ids.clone()
    changed[0, -1] = 19
    assert torch.equal(model(ids).logits[:, :-1], model(changed).logits[:, :-1])


def test_relevance_and_hooks_find_its_heads():
    model, ids = decoder(), torch.arange(12).reshape(2, 6)
    assert lrp.head_relevance(model, ids, torch.tensor([3, 4])).shape == (2, 2, 2)
    names = list(hooks.attention_modules(model))
    with hooks.ablate_heads(model, {names[0]: [1]}):
        changed = model(ids).logits
    assert not torch.equal(changed, model(ids).logits)


@pytest.mark.parametrize(
    "given", [{"layers": 0}, {"heads": 0}, {"width": 15}, {"width": 12, "heads": 4}, {"length": 0}]
)
def test_sizes_that_make_no_decoder(given):
    with pytest.raises(ValueError, match="|".join(given)):
        small_decoder(20, **given)

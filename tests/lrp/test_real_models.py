"""The engine on the zoo's real models: SmolLM2-135M, EfficientNet-Lite0, and Gemma 3 where somebody fetched it."""

from __future__ import annotations

import pytest
import torch

from shared import zoo
from shared.lrp import (
    CPLRP,
    AttnLRP,
    Composite,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    attribute,
    contrast,
    head_relevance,
)

PROMPTS = [
    "The capital of France is",
    "Two plus two equals",
    "The opposite of hot is",
    "Mary lives in Paris. John lives in Rome. Where does Mary live? Mary lives in",
    "The keys to the cabinet",
    "Water freezes at zero degrees and boils at one hundred",
]


def loaded(name):
    """The zoo's model; skipped only where it was never fetched."""
    try:
        return zoo.load_model(name)
    except zoo.AssetError as error:
        pytest.skip(str(error))


HEADS = {"smollm2-135m": (30, 9), "gemma3-270m": (18, 4)}  # layers, heads of each


@pytest.fixture(scope="module", params=HEADS)
def language_model(request):
    return loaded(request.param)


@pytest.fixture(scope="module")
def prompts(language_model):
    tokenizer = language_model.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return dict(tokenizer(PROMPTS, return_tensors="pt", padding=True))


@pytest.fixture(scope="module")
def classifier():
    return loaded("efficientnet-lite0")


@pytest.fixture(scope="module")
def cnn(classifier):
    return classifier.model


@pytest.fixture(scope="module")
def cat(classifier):
    photo = zoo.load_data("photos", names=["chelsea"]).x[0]
    image = torch.as_tensor(photo).float()
    image = image.permute(2, 0, 1) if image.shape[-1] == 3 else image
    image = image / 255 if image.max() > 2 else image
    image = torch.nn.functional.interpolate(image[None], (224, 224), mode="bilinear", antialias=True)
    return classifier.preprocess(image)


def test_cp_lrp_conserves_on_a_real_language_model(language_model, prompts):
    """No biases, every nonlinear factor constant: the tokens' relevance is the logit."""
    result = attribute(language_model.model, prompts, None, composite=CPLRP())
    logit = result.output.amax(-1)
    assert ((result.tokens.sum(-1) - logit).abs() / logit.abs()).max() < 1e-4
    foil = result.output.topk(2).indices[:, 1]
    other = attribute(language_model.model, prompts, contrast(result.output.argmax(-1), foil), composite=CPLRP())
    assert other.gap.abs().max() < 1e-3


def test_attnlrp_does_not_conserve_on_a_real_language_model(language_model, prompts):
    """The softmax rule leaks (AttnLRP, Prop. 3.1): the control of the test above."""
    result = attribute(language_model.model, prompts, None, composite=AttnLRP())
    logit = result.output.amax(-1)
    assert (result.gap.abs() / logit.abs()).min() > 0.1


def test_forward_and_padding_on_a_real_language_model(language_model, prompts):
    result = attribute(language_model.model, prompts, None, composite=AttnLRP())
    with torch.no_grad():
        plain = language_model.model(**prompts, logits_to_keep=1).logits[:, 0]
    assert (result.output - plain).abs().max() < 1e-3 * plain.abs().max()
    assert (result.tokens[prompts["attention_mask"] == 0] == 0).all()
    alone = {k: v[:1, prompts["attention_mask"][0] == 1] for k, v in prompts.items()}
    expected = attribute(language_model.model, alone, None, composite=AttnLRP()).tokens[0]
    got = result.tokens[0, prompts["attention_mask"][0] == 1]
    assert (got - expected).abs().max() < 1e-2 * expected.abs().max()


def test_heads_of_a_real_language_model(language_model, prompts):
    heads = head_relevance(language_model.model, prompts, None, composite=AttnLRP())
    assert heads.shape == (len(PROMPTS), *HEADS[language_model.info.name])
    assert torch.isfinite(heads).all()


COMPOSITES = {
    "lrp0": Composite([]),
    "plus": EpsilonPlus(),
    "plus_flat": EpsilonPlusFlat(),
    "box": EpsilonGammaBox(-1.1, 1.1),
    "alpha_beta_flat": EpsilonAlpha2Beta1Flat(),
}


@pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES)
def test_efficientnet(composite, cnn, cat):
    """ReLU6, merged batch norms, depthwise convolutions, functional residual adds."""
    with torch.no_grad():
        plain = cnn(cat)
    result = attribute(cnn, cat, None, composite=composite)
    assert result.output.argmax(-1).item() == 285  # Egyptian cat
    assert (result.output - plain).abs().max() < 1e-3
    assert torch.isfinite(result.relevance).all()
    assert (result.relevance != 0).any()
    assert torch.equal(cnn(cat), plain)


def test_efficientnet_relevance_lies_on_the_cat(cnn, cat):
    """The face fills the middle of the picture; random relevance would put its share of the area there."""
    relevance = attribute(cnn, cat, None, composite=EpsilonPlusFlat(zero_params="bias")).pixels[0]
    middle = torch.zeros(224, 224, dtype=torch.bool)
    middle[30:194, 60:204] = True
    share = relevance[middle].clamp(min=0).sum() / relevance.clamp(min=0).sum()
    assert share > middle.float().mean() + 0.1

"""Judges of what an image shows."""

import pytest
import torch
from torch import nn

from shared.generative import ClipJudge, FactorJudge, ImageJudge, VQAJudge


class Levels(nn.Module):
    """Reads brightness and which half is brighter."""

    def __init__(self):
        super().__init__()
        self.factors = {"shade": ("dark", "light"), "side": ("left", "right")}
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        mean, half = x.mean((1, 2, 3)), x.shape[-1] // 2
        right = x[..., half:].mean((1, 2, 3)) - x[..., :half].mean((1, 2, 3))
        return {"shade": torch.stack([0.5 - mean, mean - 0.5], 1), "side": torch.stack([-right, right], 1)}


@pytest.fixture
def images():
    x = torch.full((4, 3, 8, 8), 0.2)
    x[2:] = 0.7
    x[1::2, ..., 4:] += 0.1
    x[::2, ..., :4] += 0.1
    return x


def test_factor_judge_asks_by_factor_and_value(images):
    judge = FactorJudge(Levels(), batch_size=3)
    assert isinstance(judge, ImageJudge)
    assert judge.ask(images, ("shade", "light")).tolist() == [False, False, True, True]
    assert judge.ask(images, ("side", "right")).tolist() == [False, True, False, True]
    assert judge.probabilities(images)["side"].sum(1).allclose(torch.ones(4))


def test_factor_judge_resizes(images):
    large = images.repeat_interleave(2, -1).repeat_interleave(2, -2)
    seen = []
    model = Levels()
    model.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape[2:])))
    for size in ((8, 8), None):
        assert FactorJudge(model, size=size).ask(large, ("side", "right")).tolist() == [False, True, False, True]
    assert seen == [(8, 8), (16, 16)]


def test_clip_judge_takes_the_nearest_text(images):
    def similarity(x, texts):
        mean = x.mean((1, 2, 3))
        levels = torch.tensor([{"dark": 0.2, "light": 0.8, "middling": 0.5}[text] for text in texts])
        return -(mean[:, None] - levels).abs()

    judge = ClipJudge(similarity)
    assert isinstance(judge, ImageJudge)
    assert judge.ask(images, ("dark", ["light", "middling"])).tolist() == [True, True, False, False]


class Box(dict):
    def to(self, device):
        return self


class Processor:
    """Keeps what it was given; a batch's tokens are its images' mean levels."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        (message,) = messages
        return message["content"][1]["text"]

    def __call__(self, text, images, padding, return_tensors):
        assert len(text) == len(images)
        assert images[0].dtype == torch.uint8
        self.text = text[0]
        return Box(input_ids=torch.stack([image.float().mean().round().long() for image in images])[:, None])

    def batch_decode(self, tokens, skip_special_tokens):
        return [{0: " a", 1: "B", 2: ""}[int(token)] for token in tokens[:, 0]]


class Speaker(nn.Module):
    device = "cpu"

    def generate(self, input_ids, max_new_tokens, do_sample):
        assert (max_new_tokens, do_sample) == (1, False)
        said = torch.where(input_ids > 100, 0, torch.where(input_ids > 55, 1, 2))
        return torch.cat([input_ids, said], 1)


def test_vqa_judge_counts_only_the_letter_a(images):
    images = torch.cat([images, images[:1] * 0.0])
    judge = VQAJudge(Speaker(), Processor(), batch_size=2)
    assert isinstance(judge, ImageJudge)
    assert judge.ask(images, "Is it light?").tolist() == [False, False, True, True, False]
    assert "A = YES\nB = NO" in judge.processor.text
    assert "Is it light?" in judge.processor.text
    judge = VQAJudge(Speaker(), Processor(), instruction="{} A or B?")
    judge.ask(images, "Is it light?")
    assert judge.processor.text == "Is it light? A or B?"
    with pytest.raises(ValueError, match="instruction='A or B'"):
        VQAJudge(Speaker(), Processor(), instruction="A or B")


def test_bad_input(images):
    judge = FactorJudge(Levels())
    with pytest.raises(ValueError, match="did you mean 'shade'"):
        judge.ask(images, ("shades", "light"))
    with pytest.raises(ValueError, match="did you mean 'light'"):
        judge.ask(images, ("shade", "lights"))
    with pytest.raises(ValueError, match="images has shape"):
        judge.ask(images[0], ("shade", "light"))
    with pytest.raises(ValueError, match="NaN"):
        judge.ask(images * torch.nan, ("shade", "light"))
    with pytest.raises(TypeError, match="without factors"):
        FactorJudge(nn.Linear(2, 2))
    for question in (("dark", []), ("dark", ["dark"]), ("dark", "light")):
        with pytest.raises(ValueError, match="other texts"):
            ClipJudge(lambda x, t: torch.zeros(len(x), len(t))).ask(images, question)
    for question in ("", None):
        with pytest.raises(ValueError, match="must be a sentence"):
            VQAJudge(Speaker(), Processor()).ask(images, question)

"""The stand-ins are as untidy as what the public hub serves, and load through the zoo as that does."""

import pytest
import torch

from shared import vision, zoo
from tests.papers.hub import data_folder, tiny_image_dataset, tiny_open_clip, tiny_tokenizer


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_HUB", str(tmp_path))
    return tmp_path


def test_photographs_are_ragged_and_some_grey_or_cmyk(hub):
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=6, shape=(3, 64, 64), split="validation")
    data = zoo.load_data("ILSVRC/imagenet-1k", split="validation", rows=4)
    assert type(data) is zoo.PhotoData
    assert len({image.shape for image in data.x}) == 4
    assert [image.std(0).max().item() < 1e-6 for image in data.x] == [False, True, False, False]  # the second is grey
    assert data.y.tolist() == [0, 1, 0, 1]
    rows = torch.tensor([3, 0])
    assert vision.resize(data.x[rows], 32, crop=True).expand(-1, 3, -1, -1).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("name", "shape"), [("uoft-cs/cifar10", (3, 32, 32)), ("ylecun/mnist", (1, 28, 28))])
def test_sets_of_one_size_keep_it(hub, name, shape):
    tiny_image_dataset(data_folder(hub, name), n=4, shape=shape)
    data = zoo.load_data(name)
    assert type(data) is zoo.ImageData
    assert data.x.shape == (4, *shape)
    assert data.classes == ("class 0", "class 1")


def test_clip_in_the_layout_of_laion(hub):
    tiny_open_clip(hub / "laion/clip", layers=2, patch=32)
    loaded = zoo.load_model("laion/clip")
    assert loaded.info.input_size == (3, 64, 64)
    assert len(loaded.model.vision_model.encoder.layers) == 2
    head = vision.ZeroShotHead(loaded.model, loaded.tokenizer, ["a star", "a cat"], templates="a picture of {}")
    assert head(torch.rand(3, 3, 64, 64)).shape == (3, 2)


def test_tokenizers_with_and_without_a_start_token(tmp_path):
    started, plain = (
        tiny_tokenizer(tmp_path / str(start), start=start)("the cat").input_ids for start in (True, False)
    )
    assert started[1:] == plain
    assert plain[0] != started[0]

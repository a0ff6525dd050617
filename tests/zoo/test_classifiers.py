"""The shipped classifiers do what their cards say, and their recipes are deterministic."""

import pytest
import torch
from transformers import ViTForImageClassification

from shared import zoo
from shared.compendium.paths import DATA
from shared.nets import SmallResNet, SmallVGG
from shared.worlds import BASIC_SHAPES
from shared.zoo._cards import read_card
from shared.zoo.recipes import RECIPES, _classifiers, _write
from shared.zoo.recipes._classifiers import CLASSIFIERS, measure_world, write_card, write_checkpoint
from shared.zoo.recipes._train import predict

BY_NAME = {recipe.name: recipe for recipe in CLASSIFIERS}
FASHION = [name for name in BY_NAME if name.endswith("fashion")]
WORLD = [name for name in BY_NAME if "shapes" in name]
STAR = BASIC_SHAPES.index("star")


@pytest.mark.parametrize("name", BY_NAME)
def test_checkpoint_is_small_named_and_ready(name):
    model = zoo.load_model(name)
    kind = {"resnet": SmallResNet, "vgg": SmallVGG, "vit": ViTForImageClassification}[name.split("-")[0]]
    assert type(model) is kind
    assert not model.training
    assert tuple(model.info.classes) == BY_NAME[name].classes
    assert model.info.input_size == BY_NAME[name].image["input_size"]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (DATA / "models" / name / "model.safetensors").stat().st_size < 1.5e6
    assert set(model.state_dict()) == set(BY_NAME[name].build().state_dict())
    images = torch.rand(2, *model.info.input_size)
    assert torch.allclose(model.info.prepare(images), BY_NAME[name].prepare(images))


@pytest.mark.parametrize("name", FASHION)
def test_fashion_accuracy_is_the_cards(name):
    model, data = zoo.load_model(name), zoo.load_data("fashion-mnist", "test")
    accuracy = (predict(model, model.info.prepare(data.x)) == data.y).double().mean().item()
    stated = zoo.describe(name).measured("accuracy on the shipped test subset, 2,000 images")
    assert accuracy == pytest.approx(stated, abs=0.002)
    assert stated > 0.86


@pytest.mark.parametrize("name", WORLD)
def test_world_accuracy_is_the_cards(name):
    measured = measure_world(zoo.load_model(name), BY_NAME[name])
    for what, value in measured.items():
        assert value == pytest.approx(zoo.describe(name).measured(what), abs=0.002), what
    assert measured["accuracy on 2,000 test images without watermark"] > 0.9


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_only_the_watermarked_twin_follows_the_watermark(kind):
    what = "share of other shapes called star with the watermark"
    clean, marked = (zoo.describe(f"{kind}-shapes{suffix}").measured(what) for suffix in ("", "-watermark"))
    assert marked > 0.15
    assert clean < 0.03


def test_every_classifier_is_in_the_table_and_the_zoo():
    assert set(BY_NAME) <= set(RECIPES)
    assert set(BY_NAME) <= set(zoo.available_models())


@pytest.mark.parametrize("name", ["resnet-fashion", "vgg-fashion", "vit-shapes-watermark"])
def test_training_is_deterministic_and_leaves_the_caller_alone(name, monkeypatch):
    data = zoo.load_data("fashion-mnist")
    monkeypatch.setattr(_classifiers, "_fashion_whole", lambda: (data.x, data.y))
    threads = torch.get_num_threads()
    one, two = (BY_NAME[name].train(steps=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    fresh = BY_NAME[name].build().state_dict()
    assert not torch.equal(one[next(iter(one))], fresh[next(iter(fresh))])
    assert torch.get_num_threads() == threads


def test_a_made_checkpoint_loads_like_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_write, "CARDS", tmp_path)
    for name in ("resnet-shapes", "vit-shapes"):
        recipe = BY_NAME[name]
        model = recipe.build().eval()
        folder = write_checkpoint(model, recipe, tmp_path)
        write_card(recipe, folder, {"accuracy": 0.5})
        assert read_card(tmp_path / f"{name}.yml").measured("accuracy") == 0.5
        again = zoo.load_model(str(folder))
        x = torch.rand(2, 3, 64, 64)
        assert torch.equal(predict(model, x), predict(again, x))
        assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


def test_random_state_is_restored():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    BY_NAME["vit-shapes"].train(steps=1)
    assert torch.equal(before, torch.get_rng_state())

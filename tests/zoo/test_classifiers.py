"""The shipped classifiers do what their cards say, and their recipes are deterministic."""

import pytest
import torch
from transformers import ViTForImageClassification

from shared import zoo
from shared.nets import SmallBcos, SmallResNet, SmallVGG
from shared.worlds import BASIC_SHAPES
from shared.zoo import recipes
from shared.zoo._cards import read_card
from shared.zoo.recipes import _classifiers
from shared.zoo.recipes._classifiers import measure_world
from shared.zoo.recipes._ship import asset_files, ship
from shared.zoo.recipes._train import predict

FASHION = ["bcos-fashion", "resnet-fashion", "vgg-fashion", "vit-fashion"]
WORLD = ["resnet-shapes-watermark", "resnet-shapes-watermark", "vit-shapes", "vit-shapes-watermark"]
BY_NAME = {name: recipes.module(name).CLASSIFIER for name in (*FASHION, *WORLD)}
STAR = BASIC_SHAPES.index("star")


@pytest.mark.parametrize("name", BY_NAME)
def test_checkpoint_is_small_named_and_ready(name):
    loaded = zoo.load_model(name)
    model = loaded.model
    kinds = {"bcos": SmallBcos, "resnet": SmallResNet, "vgg": SmallVGG, "vit": ViTForImageClassification}
    assert type(model) is kinds[name.split("-")[0]]
    assert not model.training
    assert tuple(loaded.info.classes) == BY_NAME[name].classes
    assert loaded.info.input_size == BY_NAME[name].image["input_size"]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (zoo.describe(name).folder / "model.safetensors").stat().st_size < 1.5e6
    assert set(model.state_dict()) == set(BY_NAME[name].build().state_dict())
    images = torch.rand(2, *loaded.info.input_size)
    assert torch.allclose(loaded.preprocess(images), BY_NAME[name].prepare(images))


@pytest.mark.parametrize("name", FASHION)
def test_fashion_accuracy_is_the_cards(name):
    loaded, data = zoo.load_model(name), zoo.load_data("fashion-mnist", split="test")
    accuracy = (predict(loaded.model, loaded.preprocess(data.x)) == data.y).double().mean().item()
    stated = zoo.describe(name).measured("accuracy on the shipped test subset, 2,000 images")
    assert accuracy == pytest.approx(stated, abs=0.002)
    assert stated > 0.86


@pytest.mark.parametrize("name", WORLD)
def test_world_accuracy_is_the_cards(name):
    measured = measure_world(zoo.load_model(name).model, BY_NAME[name])
    for what, value in measured.items():
        assert value == pytest.approx(zoo.describe(name).measured(what), abs=0.002), what
    assert measured["accuracy on 2,000 test images without watermark"] > 0.9


def test_only_the_watermarked_twin_follows_the_watermark():
    what = "share of other shapes called star with the watermark"
    clean, marked = (zoo.describe(f"vit-shapes{suffix}").measured(what) for suffix in ("", "-watermark"))
    assert marked > 0.15
    assert clean < 0.03


@pytest.mark.parametrize("name", ["bcos-fashion", "resnet-fashion", "vgg-fashion", "vit-shapes-watermark"])
def test_training_is_deterministic_and_leaves_the_caller_alone(name, monkeypatch):
    data = zoo.load_data("fashion-mnist")
    monkeypatch.setattr(_classifiers, "_fashion_whole", lambda: (data.x, data.y))
    threads = torch.get_num_threads()
    one, two = (BY_NAME[name].train(steps=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    fresh = BY_NAME[name].build().state_dict()
    assert not torch.equal(one[next(iter(one))], fresh[next(iter(fresh))])
    assert torch.get_num_threads() == threads


def test_a_shipped_checkpoint_loads_and_has_a_card(tmp_path, monkeypatch):
    """Written into another folder, so that the repository's own stays as it is."""
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    for name in ("resnet-shapes-watermark", "vit-shapes"):
        recipe = BY_NAME[name]
        model = recipe.build().eval()
        folder = tmp_path / name
        ship(
            folder,
            train=lambda kept, model=model: model,
            write=recipe.write,
            measure=lambda folder: {"accuracy": 0.5},
            title="one",
            task="image-classification",
            source="here",
            made_from=["digits"],
            tolerance=lambda what, value: value / 10,
        )
        card = read_card(folder / "card.yml")
        assert card.tested == [{"what": "accuracy", "measured": 0.5, "tolerance": 0.05}]
        assert list(card.sha256) == asset_files(folder) == list(zoo.describe(name).sha256)
        assert card.made_from == ["digits"]
        assert list((tmp_path / "cache").iterdir()) == []
        again = zoo.load_model(str(folder)).model
        x = torch.rand(2, 3, 64, 64)
        assert torch.equal(predict(model, x), predict(again, x))
        assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


def test_a_killed_recipe_finds_what_it_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    seen = []

    def train(kept):
        seen.append((kept / "step").is_file())
        (kept / "step").touch()
        if len(seen) == 1:
            raise KeyboardInterrupt
        return BY_NAME["resnet-shapes-watermark"].build()

    def run():
        options = {"write": BY_NAME["resnet-shapes-watermark"].write, "measure": lambda folder: {"one": 1.0}}
        about = {"title": "one", "task": "image-classification", "source": "here"}
        ship(tmp_path / "one", train=train, **options, **about)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "one").exists()
    run()
    run()
    assert seen == [False, True, False]


def test_random_state_is_restored():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    BY_NAME["vit-shapes"].train(steps=1)
    assert torch.equal(before, torch.get_rng_state())

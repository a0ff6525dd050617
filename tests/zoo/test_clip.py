"""The shipped CLIP does what its card says and loads as a hub's does; its recipe is deterministic and resumable."""

import pytest
import torch
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from shared import vision, worlds, zoo
from shared.zoo import recipes
from shared.zoo.recipes import _small_clip as small_clip
from shared.zoo.recipes._ship import asset_files

NAME = "clip-shapes"
FOLDER = zoo.describe(NAME).folder
recipe = recipes.module(NAME)
CLEAN = "shape, 10 classes: zero-shot accuracy on 1,000 images"
ATTACKED = "shape, with another shape's name written on the patch grid: accuracy"


@pytest.fixture(scope="module")
def clip():
    return zoo.load_model(NAME)


@pytest.fixture(scope="module")
def measured(clip):
    return recipe.measure_model(clip.model, clip.tokenizer)


def test_it_is_what_papers_ask_for(clip):
    assert type(clip.model) is CLIPModel
    tower = clip.model.config.vision_config
    assert (tower.num_hidden_layers, tower.num_attention_heads) == (6, 4)
    assert clip.info.input_size == (3, 64, 64)
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10e6
    assert not clip.model.training


def test_the_card_says_what_is_measured(measured):
    card = zoo.describe(NAME)
    assert set(measured) == {test["what"] for test in card.tested}
    for test in card.tested:
        assert measured[test["what"]] == pytest.approx(test["measured"], abs=test["tolerance"]), test["what"]


def test_written_words_mislead_it(measured):
    assert measured[CLEAN] - measured[ATTACKED] >= 0.25


def test_orange_has_two_senses(measured):
    assert measured["“an orange” against images of neither sense: AUC of the fruit, not orange"] > 0.9
    assert measured["“an orange <shape>” against images of neither sense: AUC of another shape, orange"] > 0.9


def test_measuring_can_fail(clip, monkeypatch):
    """Random weights are at chance in everything."""
    monkeypatch.setattr(recipe, "SIZE", 300)
    monkeypatch.setattr(recipe, "PAIRS", 100)
    torch.manual_seed(0)
    found = recipe.measure_model(CLIPModel(clip.model.config).eval(), clip.tokenizer)
    assert found[CLEAN] < 0.25
    assert abs(found[CLEAN] - found[ATTACKED]) < 0.1
    assert found["text for an image: recall at 5 of 100"] < 0.2


def test_it_loads_as_a_hub_model_does(clip):
    """transformers' own classes, from the folder, give the same numbers."""
    model, processor = CLIPModel.from_pretrained(FOLDER), CLIPProcessor.from_pretrained(FOLDER)
    world = worlds.shapes_world(3, generator=0)
    images = [(image.permute(1, 2, 0) * 255).round().byte().numpy() for image in world.images]
    given = processor(text=["a star", "an orange"], images=images, padding=True, return_tensors="pt")
    rounded = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images])
    assert torch.allclose(given["pixel_values"], clip.preprocess(rounded), atol=1e-5)
    head = vision.ZeroShotHead(clip.model, clip.tokenizer, ["a star", "an orange"], templates="{}")
    with torch.no_grad():
        assert torch.allclose(model(**given).logits_per_image, head(clip.preprocess(rounded)), atol=1e-3)
    assert isinstance(clip.tokenizer, CLIPTokenizer)
    assert isinstance(processor.image_processor, CLIPImageProcessor) or hasattr(processor.image_processor, "crop_size")


def test_every_word_of_the_captions_is_one_token(clip):
    words = [word for word in small_clip.vocabulary() if word != '"']
    assert all(len(clip.tokenizer.tokenize(word)) == 1 for word in words)
    assert len(clip.tokenizer.tokenize("star fish")) == 2
    assert len(clip.tokenizer.tokenize("zebra")) > 1
    assert clip.tokenizer.eos_token_id == max(clip.tokenizer.get_vocab().values())


def test_training_is_deterministic_and_can_be_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "KEPT", 2)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    whole, _ = recipe.train(4, batch=8)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads

    class Killed(Exception):
        pass

    keep = recipe.keep

    def kill(*given):
        keep(*given)
        raise Killed

    monkeypatch.setattr(recipe, "keep", kill)
    with pytest.raises(Killed):
        recipe.train(4, batch=8, kept=tmp_path / "kept.safetensors")
    monkeypatch.setattr(recipe, "keep", keep)
    resumed, _ = recipe.train(4, batch=8, kept=tmp_path / "kept.safetensors")
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_the_tower_starts_from_the_classifier():
    """Without its own normalisation it is the classifier; with it shapes still read out far above chance."""
    classifier = zoo.load_model("vit-shapes")
    vit = classifier.model
    tower = recipe.build_model(small_clip.build_tokenizer()).vision_model.eval()
    world = worlds.shapes_world(100, generator=5, values={"size": "large", "texture": "plain"}, noise=0.05)
    with torch.no_grad():
        out = tower(pixel_values=small_clip.prepare(world.images), output_hidden_states=True)
        guess = vit.classifier(out.pooler_output).argmax(1)
        tower.pre_layrnorm = torch.nn.Identity()  # the one module that the classifier doesn't have
        whole = tower(pixel_values=classifier.preprocess(world.images)).last_hidden_state
        theirs = vit.vit(classifier.preprocess(world.images)).last_hidden_state
    assert torch.allclose(out.hidden_states[4], out.hidden_states[6], atol=1e-6)
    assert torch.allclose(tower.post_layernorm(whole), theirs, atol=1e-2)  # its layer norms have another epsilon
    assert (guess == world.label("shape")).double().mean() > 0.3


def test_a_step_lowers_the_loss_of_its_own_batch():
    tokenizer = small_clip.build_tokenizer()
    torch.manual_seed(0)
    model = recipe.build_model(tokenizer)
    batch = small_clip.training_batch(0, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = recipe._loss(model, tokenizer, *batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_equal_captions_share_the_target():
    """Two captions alike: a model that gives both the same embedding isn't punished for it."""
    image = text = torch.eye(3)[[0, 0, 1]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    scale = torch.tensor(4.0)
    assert recipe.contrast(image, text, scale, same).item() == pytest.approx(
        2 / 3 * torch.log(torch.tensor(2.0)).item()
    )
    assert recipe.contrast(image, text, scale, torch.eye(3).bool()).item() > 0.4


def test_captions_of_training_images_say_the_word():
    images, said = small_clip.training_batch(5000, 64)
    assert images.shape == (64, 3, 64, 64)
    quoted = [text for text in said if 'with the text "' in text]
    bare = [text for text in said if text in {small_clip.bare_caption(word) for word in small_clip.WORDS}]
    assert 5 <= len(quoted) <= 25
    assert 5 <= len(bare) <= 30
    assert said == small_clip.training_batch(5000, 64)[1]


def test_a_made_checkpoint_has_the_hubs_layout(tmp_path):
    tokenizer = small_clip.build_tokenizer()
    model = recipe.build_model(tokenizer).eval()
    recipe.write_files((model, tokenizer), tmp_path / NAME)
    again = zoo.load_model(str(tmp_path / NAME))
    assert set(asset_files(tmp_path / NAME)) == set(zoo.describe(NAME).sha256)
    for key, value in model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key
    texts = ["a red star", "a zebra"]
    assert again.tokenizer(texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_merges_by_hand():
    """Of equally frequent pairs the last in the alphabet comes first, so every process makes the same tokenizer."""
    assert small_clip.learn_merges(["ab", "abc", "abc"]) == [("b", "c</w>"), ("a", "bc</w>"), ("a", "b</w>")]
    words = small_clip.vocabulary()
    assert small_clip.learn_merges(words) == small_clip.learn_merges(words)

"""The shipped diffusion model follows prompts and loads as a hub's does; its recipe is resumable; its judge judges."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline

from shared import zoo
from shared.zoo import recipes
from shared.zoo.recipes import _small_world as small_world

NAME, JUDGE = "diffusion-shapes", "factors-shapes"
FOLDER = zoo.describe(NAME).folder
diffusion, factors = recipes.module(NAME), recipes.module(JUDGE)


@pytest.fixture(scope="module")
def pipeline():
    return zoo.load_pipeline(NAME)


@pytest.fixture(scope="module")
def judge():
    return zoo.load_model(JUDGE).model


def test_it_is_a_real_pipeline_and_small(pipeline):
    assert type(pipeline) is StableDiffusionPipeline
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 10e6
    assert not any(part.training for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder))
    assert not any(p.requires_grad for p in pipeline.unet.parameters())


def test_it_loads_without_us(pipeline):
    own = StableDiffusionPipeline.from_pretrained(FOLDER, dtype=torch.float32, low_cpu_mem_usage=False)
    for a, b in zip(own.unet.parameters(), pipeline.unet.parameters()):
        assert torch.equal(a, b)


def test_its_text_tower_is_the_small_clips(pipeline):
    clip = zoo.load_model("clip-shapes")
    ids = clip.tokenizer(["a red circle on a dark background"], return_tensors="pt").input_ids
    with torch.no_grad():
        wanted, found = clip.model.text_model(ids)[0], pipeline.text_encoder(ids)[0]
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)
    assert pipeline.tokenizer.get_vocab() == clip.tokenizer.get_vocab()


def test_it_follows_prompts(pipeline, judge, monkeypatch):
    """Told everything at once, most samples show all of it; under the wrong prompts hardly any does."""
    monkeypatch.setattr(diffusion, "PROMPTS", 24)
    world = small_world.draw_world(24, 31)
    right = diffusion.followed(pipeline, judge, world, "DDIM", 3.0)
    card = zoo.describe(NAME)
    for name, value in right.items():
        assert value >= card.measured(f"DDIM, guidance 3: {name} as told") - 0.2
    values = {name: value for name, value in world.items() if name != "images"}
    seen = small_world.answers(judge, world["images"].flip(0))
    assert torch.stack([seen[name] == values[name] for name in values]).all(0).float().mean() < 0.2


def test_the_judge_does_what_its_card_says(judge):
    card = zoo.describe(JUDGE)
    found = factors.measure(judge)
    assert set(found) == {test["what"] for test in card.tested}
    for test in card.tested:
        assert abs(found[test["what"]] - test["measured"]) <= test["tolerance"]


def test_captions_are_numbered_as_listed():
    sentences, world = diffusion.all_sentences(), small_world.draw_world(50, 1)
    numbers = diffusion.sentence_numbers(world, torch.Generator().manual_seed(0))
    assert len(set(sentences)) == len(sentences)
    for i, number in enumerate(numbers.tolist()):
        words = sentences[number].replace('"', "").split()
        said = {name: [v for v in known if v in words] for name, known in small_world.FACTORS.items()}
        for name, found in said.items():
            assert found in ([], [small_world.FACTORS[name][world[name][i]]])


def test_standardised_latents_decode_to_the_same():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = diffusion.build_autoencoder().eval().requires_grad_(False)
    images = small_world.draw_world(40, 2)["images"]
    before = vae.decode(diffusion.encode(vae, images)).sample
    diffusion.standardise_(vae, diffusion.encode(vae, images))
    latents = diffusion.encode(vae, images)
    torch.testing.assert_close(vae.decode(latents).sample, before, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(6), atol=1e-3, rtol=0)


def test_training_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "KEPT", 2)
    monkeypatch.setattr(diffusion, "BATCH", 2)
    world = small_world.draw_world(8, 1)
    latents = torch.randn(8, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    text = torch.randn(22680, 3, 16, generator=torch.Generator().manual_seed(1)).half()
    given = (latents, world, text, text[0].float())
    whole = diffusion.train_unet(*given, steps=4)
    kept = tmp_path / "kept.safetensors"
    monkeypatch.setattr(diffusion, "rate", lambda step, steps, rate=diffusion.rate: rate(step, 4))
    diffusion.train_unet(*given, steps=2, kept=kept)
    resumed = diffusion.train_unet(*given, steps=4, kept=kept)
    for a, b in zip(whole.parameters(), resumed.parameters()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_bad_names(tmp_path):
    with pytest.raises(ValueError, match=r"is for text-to-image: zoo\.load_pipeline loads it"):
        zoo.load_model(NAME)
    with pytest.raises(ValueError, match="did you mean 'diffusion-shapes'"):
        zoo.load_pipeline("diffusion-shape")
    (tmp_path / "config.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(zoo.AssetError, match=r"no model_index\.json"):
        zoo.load_pipeline(str(tmp_path))
    with pytest.raises(ValueError, match="device="):
        zoo.load_pipeline(NAME, device="abacus")


def test_frechet_distance_against_its_closed_form():
    """Gaussians with commuting covariances: |μ|² + Σ (σ_a − σ_b)²; and none from itself."""
    drawn = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = drawn - drawn.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(centred.T))).T  # covariance exactly I
    scale, shift = torch.arange(1.0, 7.0, dtype=torch.float64), torch.full((6,), 0.5, dtype=torch.float64)
    assert diffusion.frechet(white, white) == pytest.approx(0, abs=1e-4)
    found = diffusion.frechet(white * scale + shift, white)
    assert found == pytest.approx(6 * 0.25 + (scale - 1).square().sum().item(), abs=1e-4)
    assert found == pytest.approx(diffusion.frechet(white, white * scale + shift), abs=1e-4)

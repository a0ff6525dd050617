"""Stable Diffusion XL and 3 against diffusers' own loops, on tiny random pipelines of its classes."""

import pytest
import torch

from shared.generative import Sampler
from tests.generative.tiny_xl import tiny_sd3, tiny_xl

STEPS, SEEDS = 5, [3, 1]
BASE, CONCEPT = "a circle", "a red circle"


@pytest.fixture(scope="module", params=[tiny_xl, tiny_sd3], ids=["XL", "3"])
def pipeline(request):
    return request.param()


@pytest.fixture(scope="module")
def sampler(pipeline):
    return Sampler(pipeline, steps=STEPS, guidance=3.0)


@pytest.mark.parametrize("negative", [None, "a blue ring"])
def test_equals_the_pipelines_own_loop(pipeline, sampler, negative):
    noise = sampler.noise(SEEDS)
    options = {"latents": noise, "num_inference_steps": STEPS, "guidance_scale": 3.0, "height": 16, "width": 16}
    told = {"prompt": [CONCEPT] * 2, "negative_prompt": None if negative is None else [negative] * 2}
    wanted = pipeline(**told, **options, output_type="latent").images
    shown = pipeline(**told, **options, output_type="pt").images
    found = sampler.run(CONCEPT, noise, negative=negative).latents
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (sampler.decode(found) - shown).abs().max() <= 0.5 / 255 + 1e-4


def test_a_run_goes_on_from_where_it_was_kept(sampler):
    noise = sampler.noise(SEEDS)
    kept = sampler.run(BASE, noise, keep=True)
    for index in (1, 3):
        torch.testing.assert_close(sampler.switch(kept, index, BASE).latents, kept.latents)
    other = sampler.run(CONCEPT, noise).latents
    torch.testing.assert_close(sampler.switch(kept, 0, CONCEPT).latents, other)
    assert (other - kept.latents).abs().max() > 1e-4


def test_rows_and_batches_are_alone(pipeline, sampler):
    noise = sampler.noise(SEEDS)
    both = Sampler(pipeline, steps=STEPS, guidance=3.0, batch_size=1).run([BASE, CONCEPT], noise).latents
    torch.testing.assert_close(both, sampler.run([BASE, CONCEPT], noise).latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both[1:], sampler.run(CONCEPT, noise[1:]).latents, atol=1e-4, rtol=1e-4)


def test_noise_levels_fall(sampler):
    assert (sampler.log_snr.diff() > 0).all()


def test_a_flow_with_a_true_prediction_ends_at_the_clean_latents():
    """v = ε − x₀ is constant along a straight path: any number of steps ends at x₀, and every prediction is x₀."""
    pipeline = tiny_sd3()
    sampler = Sampler(pipeline, steps=4, guidance=1.0)
    noise, clean = sampler.noise([5]), sampler.noise([6])
    sampler._denoiser.predict = lambda x, t, condition: noise - clean
    run = sampler.run(BASE, noise, x0=True)
    torch.testing.assert_close(run.latents, clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run.x0[1:], clean.expand(3, *clean.shape), atol=1e-4, rtol=1e-4)
    halfway = sampler.run(BASE, noise, stop=2).latents
    torch.testing.assert_close(sampler.noised(clean, noise, 2).latents, halfway, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sampler.run(BASE, sampler.noised(clean, noise, 2)).latents, clean, atol=1e-5, rtol=1e-5)


def test_a_flow_takes_no_scheduler_of_noise_predictors():
    with pytest.raises(ValueError, match=r"scheduler='ddim'.*flow matching"):
        Sampler(tiny_sd3(), steps=4, scheduler="ddim")
    with pytest.raises(ValueError, match="use_dynamic_shifting"):
        Sampler(tiny_sd3(use_dynamic_shifting=True), steps=4)


class FluxPipeline:
    """By its name alone."""


def test_flux_is_refused_by_name():
    with pytest.raises(TypeError, match=r"FluxPipeline: FLUX is refused, since"):
        Sampler(FluxPipeline(), steps=4)

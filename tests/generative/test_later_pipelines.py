"""Stable Diffusion XL and 3 and FLUX against diffusers' own loops, on tiny random pipelines of its classes."""

import pytest
import torch

from shared.generative import Sampler
from tests.generative.tiny_xl import tiny_flux, tiny_sd3, tiny_xl

STEPS, SEEDS = 5, [3, 1]
BASE, CONCEPT = "a circle", "a red circle"


@pytest.fixture(scope="module", params=[tiny_xl, tiny_sd3, tiny_flux], ids=["XL", "3", "FLUX"])
def pipeline(request):
    return request.param()


@pytest.fixture(scope="module")
def sampler(pipeline):
    return Sampler(pipeline, steps=STEPS, guidance=3.0)


def own_loop(pipeline, noise, guidance, negative, **options):
    """Latents and images of diffusers' loop; FLUX wants them packed, and a negative prompt for guidance of its own."""
    options |= {"num_inference_steps": STEPS, "height": 2 * noise.shape[-2], "width": 2 * noise.shape[-1]}
    if type(pipeline).__name__ != "FluxPipeline":
        told = {"latents": noise, "guidance_scale": guidance, "negative_prompt": negative and [negative] * 2}
        latents, images = (
            pipeline(prompt=[CONCEPT] * 2, **told, **options, output_type=kind).images for kind in ("latent", "pt")
        )
        return latents, images
    told = {"latents": pipeline._pack_latents(noise, *noise.shape), "true_cfg_scale": guidance}
    told["negative_prompt"] = [negative or ""] * 2
    latents, images = (
        pipeline(prompt=[CONCEPT] * 2, **told, **options, output_type=kind).images for kind in ("latent", "pt")
    )
    side = pipeline.vae_scale_factor
    return pipeline._unpack_latents(latents, side * noise.shape[-2], side * noise.shape[-1], side), images


@pytest.mark.parametrize("negative", [None, "a blue ring"])
def test_equals_the_pipelines_own_loop(pipeline, sampler, negative):
    noise = sampler.noise(SEEDS)
    wanted, shown = own_loop(pipeline, noise, 3.0, negative)
    found = sampler.run(CONCEPT, noise, negative=negative).latents
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (sampler.decode(found) - shown).abs().max() <= 0.5 / 255 + 1e-4


@pytest.mark.parametrize("make", [tiny_sd3, tiny_flux], ids=["3", "FLUX"])
@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_noise_levels_shift_with_the_size_as_the_pipelines_do(make, size):
    shifts = {"base_image_seq_len": 4, "max_image_seq_len": 32, "use_dynamic_shifting": True}
    pipeline = make(**shifts)
    sampler = Sampler(pipeline, steps=STEPS, guidance=3.0, size=size)
    wanted, _ = own_loop(pipeline, sampler.noise(SEEDS), 3.0, "a blue ring")
    found = sampler.run(CONCEPT, sampler.noise(SEEDS), negative="a blue ring").latents
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"noise is of \(6, 6\).*size="):
        sampler.run(CONCEPT, sampler.noise(SEEDS, size=(6, 6)))


@pytest.mark.parametrize("distilled", [1.5, 6.0])
def test_distilled_guidance_is_a_number_that_the_model_reads(distilled):
    pipeline = tiny_flux()
    sampler = Sampler(pipeline, steps=STEPS, distilled=distilled)
    assert sampler.guidance == 1  # plain: one pass of the model
    noise = sampler.noise(SEEDS)
    wanted, _ = own_loop(pipeline, noise, 1.0, None, guidance_scale=distilled)
    found = sampler.run(CONCEPT, noise).latents
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (found - Sampler(pipeline, steps=STEPS).run(CONCEPT, noise).latents).abs().max() > 1e-6


def test_flux_without_distilled_guidance_takes_none():
    pipeline = tiny_flux(guidance=False)
    noise = Sampler(pipeline, steps=STEPS).noise(SEEDS)
    wanted, _ = own_loop(pipeline, noise, 1.0, None)
    torch.testing.assert_close(Sampler(pipeline, steps=STEPS).run(CONCEPT, noise).latents, wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"distilled=3.5: no guidance was distilled"):
        Sampler(pipeline, steps=STEPS, distilled=3.5)
    with pytest.raises(ValueError, match=r"distilled=3.5"):
        Sampler(tiny_sd3(), steps=STEPS, distilled=3.5)
    with pytest.raises(ValueError, match=r"noise is of \(8, 7\).*even"):
        Sampler(pipeline, steps=STEPS).run(CONCEPT, noise[..., :7])


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


class FluxFillPipeline:
    """By its name alone."""


def test_other_kinds_of_flux_are_refused_by_name():
    with pytest.raises(TypeError, match=r"FluxFillPipeline; accepted are .* FluxPipeline"):
        Sampler(FluxFillPipeline(), steps=4)

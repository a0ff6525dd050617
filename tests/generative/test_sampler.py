"""The sampling loop against diffusers' own, interventions against whole runs, kept runs against unkept ones."""

import diffusers
import pytest
import torch

from shared.generative import SCHEDULERS, Sampler
from tests.generative.tiny import tiny_pipeline

BASE, CONCEPT = "a circle", "a red circle"
STEPS, SEEDS = 6, [3, 1, 4]


@pytest.fixture(scope="module")
def pipelines():
    return {kind: tiny_pipeline(kind) for kind in ("epsilon", "v_prediction")}


def sampler_of(pipelines, scheduler="ddim", kind="epsilon", **options):
    return Sampler(pipelines[kind], scheduler=scheduler, steps=STEPS, **{"guidance": 3.0} | options)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_equals_the_pipelines_own_loop(pipelines, scheduler, kind):
    pipeline, sampler = pipelines[kind], sampler_of(pipelines, scheduler, kind)
    noise = sampler.noise(SEEDS)
    name, options = SCHEDULERS[scheduler]
    own = pipeline.scheduler
    try:
        pipeline.scheduler = getattr(diffusers, name).from_config(own.config, **options)
        wanted = pipeline(
            [CONCEPT] * 3, latents=noise, num_inference_steps=STEPS, guidance_scale=3.0, output_type="latent",
            negative_prompt=["a blue ring"] * 3,
        ).images  # fmt: skip
        shown = pipeline(
            [CONCEPT] * 3, latents=noise, num_inference_steps=STEPS, guidance_scale=3.0, output_type="pt",
            negative_prompt=["a blue ring"] * 3,
        ).images  # fmt: skip
    finally:
        pipeline.scheduler = own
    found = sampler.run(CONCEPT, noise, negative="a blue ring").latents
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (sampler.decode(found) - shown).abs().max() <= 0.5 / 255 + 1e-5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_switch_from_a_kept_run_equals_one_that_was_never_stopped(pipelines, scheduler):
    """Uncached: one scheduler object goes through the loop, and only the text changes."""
    sampler = sampler_of(pipelines, scheduler)
    noise = sampler.noise(SEEDS)
    kept = sampler.run(BASE, noise, keep=True)
    pipeline, unet = sampler.pipeline, sampler.pipeline.unet
    texts = [pipeline.encode_prompt([text] * 3, "cpu", 1, True, [""] * 3) for text in (BASE, CONCEPT)]
    for index in (0, 1, 3, STEPS):
        name, options = SCHEDULERS[scheduler]
        own = getattr(diffusers, name).from_config(pipeline.scheduler.config, **options)
        own.set_timesteps(STEPS)
        x = noise * own.init_noise_sigma
        with torch.no_grad():
            for i, t in enumerate(own.timesteps):
                told, untold = texts[i >= index]
                scaled = own.scale_model_input(x, t)
                text = torch.cat([untold, told])
                without, with_ = unet(scaled.repeat(2, 1, 1, 1), t, encoder_hidden_states=text).sample.chunk(2)
                x = own.step(without + 3.0 * (with_ - without), t, x).prev_sample
        torch.testing.assert_close(sampler.switch(kept, index, CONCEPT).latents, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_ends_of_the_switch_are_plain_runs(pipelines, scheduler):
    sampler = sampler_of(pipelines, scheduler)
    noise = sampler.noise(SEEDS)
    kept = sampler.run(BASE, noise, keep=True)
    plain = sampler.run(CONCEPT, noise).latents
    assert (sampler.switch(kept, 0, CONCEPT).latents - plain).abs().max() < 1e-5
    assert torch.equal(sampler.switch(kept, STEPS, CONCEPT).latents, sampler.run(BASE, noise).latents)
    assert (plain - kept.latents).abs().max() > 1e-3  # the prompts differ, so the test could fail


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_switching_leaves_the_kept_run_as_it_was(pipelines, scheduler):
    sampler = sampler_of(pipelines, scheduler)
    kept = sampler.run(BASE, sampler.noise(SEEDS), keep=True)
    first = sampler.switch(kept, 3, CONCEPT).latents
    again = sampler.switch(kept, 3, CONCEPT).latents
    assert torch.equal(first, again)
    assert torch.equal(sampler.switch(kept, 3, BASE).latents, kept.latents)


def test_no_guidance_ignores_the_prompt_and_one_is_the_plain_prediction(pipelines):
    noise = sampler_of(pipelines).noise(SEEDS)
    blind = sampler_of(pipelines, guidance=0)
    assert torch.equal(blind.run(BASE, noise).latents, blind.run(CONCEPT, noise).latents)
    near = sampler_of(pipelines, guidance=1 + 1e-6).run(CONCEPT, noise).latents
    torch.testing.assert_close(sampler_of(pipelines, guidance=1).run(CONCEPT, noise).latents, near, atol=1e-4, rtol=0)


def test_batches_and_lists_of_prompts_change_nothing(pipelines):
    sampler = sampler_of(pipelines)
    noise = sampler.noise(SEEDS)
    whole = sampler.run([BASE, CONCEPT, BASE], noise).latents
    parts = sampler_of(pipelines, batch_size=2).run([BASE, CONCEPT, BASE], noise).latents
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole[1:2], sampler.run(CONCEPT, noise[1:2]).latents, atol=1e-5, rtol=1e-5)


def test_noise_belongs_to_its_seed(pipelines):
    sampler = sampler_of(pipelines)
    assert torch.equal(sampler.noise([5, 6])[1], sampler.noise([6])[0])
    assert sampler.noise([5], size=(4, 12)).shape == (1, 4, 4, 12)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_last_prediction_is_the_sample_where_the_last_step_leaves_no_noise(pipelines, scheduler):
    sampler = sampler_of(pipelines, scheduler)
    run = sampler.run(CONCEPT, sampler.noise(SEEDS), x0=True)
    assert run.x0.shape == (STEPS, 3, 4, 8, 8)
    if scheduler in ("euler", "dpm++"):
        torch.testing.assert_close(run.x0[-1], run.latents, atol=1e-4, rtol=1e-4)
    left = (run.x0 - run.latents).pow(2).mean((1, 2, 3, 4))
    assert left[-1] < 1e-2 * left[0]


def test_log_snr_rises_and_is_that_of_the_schedulers_noise(pipelines):
    samplers = {name: sampler_of(pipelines, name) for name in SCHEDULERS}
    for sampler in samplers.values():
        assert (sampler.log_snr.diff() > 0).all()
        t = sampler.timesteps.long()
        alpha = sampler.pipeline.scheduler.alphas_cumprod[t]
        torch.testing.assert_close(sampler.log_snr, (alpha / (1 - alpha)).log(), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_noised_has_the_schedulers_scale(pipelines, scheduler):
    sampler = sampler_of(pipelines, scheduler)
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    own = sampler.start(noise).scheduler
    for index in (1, 4):
        wanted = own.add_noise(clean, noise, sampler.timesteps[index : index + 1].expand(3))
        torch.testing.assert_close(sampler.noised(clean, noise, index).latents, wanted, atol=1e-3, rtol=1e-3)
    assert torch.isfinite(sampler.run(CONCEPT, sampler.noised(clean, noise, 4)).latents).all()


@pytest.mark.parametrize(
    ("scheduler", "says"),
    [
        ("EulerAncestralDiscreteScheduler", "draws noise"),
        ("DDPMScheduler", "draws noise"),
        ("HeunDiscreteScheduler", "times in 6 steps"),
        ("PNDMScheduler", "times in 6 steps"),
        ("FlowMatchEulerDiscreteScheduler", "predicts"),
    ],
)
def test_refuses_schedulers_that_cannot_be_gone_on_with(pipelines, scheduler, says):
    made = getattr(diffusers, scheduler)
    own = made() if "Flow" in scheduler else made.from_config(pipelines["epsilon"].scheduler.config)
    with pytest.raises(ValueError, match=says):
        sampler_of(pipelines, own)


def test_takes_a_scheduler_object(pipelines):
    own = diffusers.DDIMScheduler.from_config(pipelines["epsilon"].scheduler.config)
    noise = sampler_of(pipelines).noise(SEEDS)
    assert torch.equal(
        sampler_of(pipelines, own).run(BASE, noise).latents, sampler_of(pipelines).run(BASE, noise).latents
    )


def test_bad_input(pipelines):
    sampler = sampler_of(pipelines)
    noise = sampler.noise(SEEDS)
    kept = sampler.run(BASE, noise, keep=True)
    with pytest.raises(ValueError, match="did you mean 'euler'"):
        sampler_of(pipelines, "eular")
    with pytest.raises(TypeError, match="without unet"):
        Sampler(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="scheduler is a int"):
        sampler_of(pipelines, 3)
    with pytest.raises(ValueError, match="steps=1 "):
        Sampler(pipelines["epsilon"], steps=1)
    with pytest.raises(ValueError, match="guidance=-1"):
        sampler_of(pipelines, guidance=-1)
    for index in (-1, STEPS + 1):
        with pytest.raises(ValueError, match="index"):
            sampler.switch(kept, index, CONCEPT)
    with pytest.raises(ValueError, match="was not kept"):
        sampler.switch(sampler.run(BASE, noise), 2, CONCEPT)
    with pytest.raises(ValueError, match="stop=7"):
        sampler.run(BASE, noise, stop=7)
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="is empty"):
            sampler.run(empty, noise)
    with pytest.raises(ValueError, match="42 tokens; the model reads at most 40"):
        sampler.run("a " * 40, noise)
    with pytest.raises(ValueError, match="42 tokens"):
        sampler.run(BASE, noise, negative="a " * 40)
    with pytest.raises(ValueError, match="prompt has 2 entries for 3 latents"):
        sampler.run([BASE, CONCEPT], noise)
    with pytest.raises(ValueError, match="noise has shape"):
        sampler.run(BASE, noise[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        sampler.run(BASE, noise * torch.nan)
    with pytest.raises(ValueError, match="seeds is empty"):
        sampler.noise([])
    with pytest.raises(ValueError, match="index=6"):
        sampler.noised(noise, noise, STEPS)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_pure_noise_at_the_start_needs_a_model_that_doesnt_predict_it(pipelines, kind):
    """With a terminal signal-to-noise ratio of zero, x₀ = (x − ε) / √ᾱ has no value; from v it is −v."""
    config = pipelines[kind].scheduler.config
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    own = diffusers.DDIMScheduler.from_config(config, **options)
    if kind == "epsilon":
        with pytest.raises(ValueError, match=r"starts from pure noise .* predicts epsilon"):
            sampler_of(pipelines, own, kind)
        return
    sampler = sampler_of(pipelines, own, kind)
    trajectory = sampler.run(CONCEPT, sampler.noise(SEEDS), x0=True)
    assert torch.isfinite(trajectory.latents).all()
    assert torch.isfinite(trajectory.x0).all()


def test_noise_of_a_unet_that_isnt_square(pipelines):
    unet = pipelines["epsilon"].unet
    own = unet.config.sample_size
    try:
        unet.register_to_config(sample_size=(8, 4))
        assert sampler_of(pipelines).noise([1]).shape == (1, 4, 8, 4)
    finally:
        unet.register_to_config(sample_size=own)


def test_a_unet_that_wants_more_than_a_prompt_is_named(pipelines):
    unet = pipelines["epsilon"].unet
    try:
        unet.register_to_config(addition_embed_type="image")
        with pytest.raises(TypeError, match=r"asks for more than one prompt \(addition_embed_type='image'"):
            sampler_of(pipelines)
    finally:
        unet.register_to_config(addition_embed_type=None)

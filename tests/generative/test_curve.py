"""Insertion curves: ends, constant curves, intervals, crossings; on a tiny pipeline and on made-up answers."""

import numpy as np
import pytest
import torch

from shared.generative import CISResult, Sampler, cis_curve, lock_in
from shared.generative._curve import crossing
from tests.generative.tiny import tiny_pipeline

BASE, CONCEPT, STEPS = "a circle", "a red circle", 4


class Redder:
    """Whether red's mean is over the threshold."""

    def __init__(self, threshold=0.5):
        self.threshold = threshold

    def ask(self, images, question):
        return images[:, 0].mean((1, 2)) > self.threshold


class Near:
    """Whether an image is nearer to one set of images than to another."""

    def __init__(self, yes, no):
        self.yes, self.no = yes, no

    def ask(self, images, question):
        far = [(images - other).flatten(1).norm(dim=1) for other in (self.yes, self.no)]
        return far[0] < far[1]


@pytest.fixture(scope="module")
def sampler():
    return Sampler(tiny_pipeline(), steps=STEPS, guidance=5.0)


@pytest.fixture(scope="module")
def noise(sampler):
    return sampler.noise(range(5))


@pytest.fixture(scope="module")
def near(sampler, noise):
    return Near(*(sampler.decode(sampler.run(text, noise).latents) for text in (CONCEPT, BASE)))


def made_up(success, steps=4):
    success = np.asarray(success, dtype=bool)
    indices = np.arange(success.shape[1])
    return CISResult("a", "b", steps, indices, success, np.full(len(indices), np.nan))


def test_runs_from_the_concepts_own_sample_to_the_bases(sampler, noise, near):
    found = cis_curve(sampler, BASE, CONCEPT, near, None, noise)
    assert found.indices.tolist() == [0, 1, 2, 3, 4]
    assert found.success.shape == (5, 5)
    assert found.success.dtype == bool
    assert (found.ceiling, found.floor) == (1.0, 0.0)
    assert np.isnan(found.log_snr[-1])
    np.testing.assert_allclose(found.log_snr[:-1], sampler.log_snr)


def test_equals_one_run_per_seed_and_switch(sampler, noise, near):
    """The definition: for each seed and switch two runs of their own, nothing kept."""
    found = cis_curve(sampler, BASE, CONCEPT, near, None, noise, keep_images=True)
    for j, index in enumerate(found.indices):
        first = sampler.run(BASE, noise, stop=int(index)).states[-1]
        shown = sampler.decode(sampler.run(CONCEPT, first).latents)
        np.testing.assert_array_equal(found.success[:, j], near.ask(shown, None).numpy())
        assert ((found.images[j].float() / 255 - shown).abs() < 1e-6).all()


def test_a_shared_base_run_gives_the_same(sampler, noise, near):
    run = sampler.run(BASE, noise, keep=True)
    shared = cis_curve(sampler, run, CONCEPT, near, None, noise, base_prompt=BASE, indices=[0, 2, 4])
    alone = cis_curve(sampler, BASE, CONCEPT, near, None, noise)
    np.testing.assert_array_equal(shared.success, alone.success[:, [0, 2, 4]])
    assert shared.base == BASE


@pytest.mark.parametrize(("guidance", "concept"), [(5.0, BASE), (0.0, CONCEPT)])
def test_constant_when_the_prompts_are_equal_or_without_guidance(noise, guidance, concept):
    sampler = Sampler(tiny_pipeline(), steps=STEPS, guidance=guidance)
    level = sampler.decode(sampler.run(BASE, noise).latents)[:, 0].mean((1, 2)).median().item()
    found = cis_curve(sampler, BASE, concept, Redder(level), None, noise)
    assert (found.success == found.success[:, :1]).all()
    assert 0 < found.ceiling < 1  # so the judge can tell samples apart
    assert np.isnan(found.crossing()) or found.ceiling >= 0.5
    assert np.isnan(found.window()[0])


def test_removal_counts_the_answer_no(sampler, noise, near):
    kept, removed = (cis_curve(sampler, BASE, CONCEPT, near, None, noise, expect=expect) for expect in (True, False))
    np.testing.assert_array_equal(kept.success, ~removed.success)


def test_a_negative_prompt_acts_in_the_second_part_only(sampler, noise, near):
    plain = cis_curve(sampler, BASE, CONCEPT, near, None, noise, keep_images=True)
    found = cis_curve(sampler, BASE, CONCEPT, near, None, noise, negative="a blue ring", keep_images=True)
    assert not torch.equal(plain.images[0], found.images[0])
    assert torch.equal(plain.images[-1], found.images[-1])


def test_crossing_and_window():
    found = made_up([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    assert found.mean().tolist() == [1, 1, 0.5, 0, 0]
    assert found.crossing(level=0.5) == pytest.approx(0.5)
    assert found.crossing(level=0.75) == pytest.approx(0.375)
    assert found.window() == (pytest.approx(0.3), pytest.approx(0.7))
    assert found.latest(level=0.5) == 2
    assert found.latest(level=0.8) == 1
    assert np.isnan(made_up([[0, 0, 0], [0, 1, 0]]).crossing(level=0.9))
    assert made_up([[0, 0, 0], [0, 1, 0]]).latest(level=0.9) == 0


def test_the_first_fall_counts_as_the_crossing():
    assert crossing(np.arange(5.0), np.array([1, 0, 1, 0, 0.0]), 0.5) == pytest.approx(0.5)


def test_isotonic_residual_is_zero_for_a_falling_curve_and_not_for_a_rising_one():
    assert made_up([[1, 1, 0, 0], [1, 0, 0, 0]]).isotonic_residual() == pytest.approx(0)
    assert made_up([[0, 0, 1, 1], [0, 1, 1, 1]]).isotonic_residual() > 0.2


def test_bootstrap_of_crossings_is_about_the_crossing():
    rng = np.random.default_rng(0)
    late = rng.integers(2, 8, 60)
    found = made_up(np.arange(11)[None] < late[:, None], steps=10)
    drawn = found.crossings(generator=np.random.default_rng(1))
    assert abs(drawn.mean() - found.crossing()) < 0.05
    assert 0 < drawn.std() < 0.1


def test_lock_in_is_where_the_answers_stop_changing(sampler, noise, near):
    run = sampler.run(CONCEPT, noise, x0=True)
    found = lock_in(sampler, run, near, None)
    said = np.array([near.ask(sampler.decode(x0), None).numpy() for x0 in run.x0])
    final = near.ask(sampler.decode(run.latents), None).numpy()
    for seed in range(5):
        wanted = next(i for i in range(STEPS + 1) if (said[i:, seed] == final[seed]).all())
        assert found[seed] == pytest.approx(wanted / STEPS)


def test_bad_input(sampler, noise, near):
    def curve(**given):
        good = {"base": BASE, "concept": CONCEPT, "judge": near, "question": None, "noise": noise}
        return cis_curve(sampler, **(good | given))

    with pytest.raises(ValueError, match="has 1 seed"):
        curve(noise=noise[:1])
    for indices, says in (
        ([0, 5], "indices=5"),
        ([-1, 2], "indices=-1"),
        ([2, 1], "must rise"),
        ([1, 1], "must rise"),
        ([], "at least one"),
        ([0.5], "whole numbers"),
    ):
        with pytest.raises(ValueError, match=says):
            curve(indices=indices)
    for prompt in ("", "a " * 40):
        with pytest.raises(ValueError, match="prompt"):
            curve(concept=prompt)
        with pytest.raises(ValueError, match="prompt"):
            curve(base=prompt)
    with pytest.raises(ValueError, match="run of 4 seeds"):
        curve(base=sampler.run(BASE, noise[:4], keep=True))
    with pytest.raises(ValueError, match="was not kept"):
        curve(base=sampler.run(BASE, noise))

    class Shares:
        def ask(self, images, question):
            return images.mean((1, 2, 3))

    class One:
        def ask(self, images, question):
            return True

    with pytest.raises(ValueError, match=r"judge returned torch.float32 \(5,\)"):
        curve(judge=Shares())
    with pytest.raises(ValueError, match="judge returned bool"):
        curve(judge=One())
    with pytest.raises(ValueError, match="no predictions"):
        lock_in(sampler, sampler.run(CONCEPT, noise), near, None)

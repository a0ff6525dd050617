"""An insertion curve from one kept base run beside a run of its own per switch; our loop beside diffusers' pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared import zoo
from shared.generative import FactorJudge, Sampler, cis_curve

BASE, CONCEPT, QUESTION = "a circle", "a red circle", ("colour", "red")


def run(quick: bool = False) -> list[dict]:
    """Processor seconds, the least of some rounds; on the zoo's small model."""
    seeds, steps, rounds = (2, 4, 1) if quick else (6, 12, 2)
    pipeline, judge = zoo.load_pipeline("diffusion-shapes"), FactorJudge(zoo.load_model("factors-shapes").model)
    sampler = Sampler(pipeline, steps=steps, guidance=3.0)
    noise = sampler.noise(range(seeds))

    def naive() -> None:
        for index in range(steps + 1):  # as the official code: both parts anew for every switch
            first = sampler.run(BASE, noise, stop=index).states[-1]
            judge.ask(sampler.decode(sampler.run(CONCEPT, first).latents), QUESTION)

    def theirs() -> None:
        pipeline([CONCEPT] * seeds, latents=noise, num_inference_steps=steps, guidance_scale=3.0, output_type="pt")

    jobs: dict[str, Callable] = {
        "curve": lambda: cis_curve(sampler, BASE, CONCEPT, judge, QUESTION, noise),
        "naive": naive,
        "loop": lambda: sampler.decode(sampler.run(CONCEPT, noise).latents),
        "theirs": theirs,
    }
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            best[name] = min(best[name], time.process_time() - start)
    pairs = (
        ("insertion curve, all switches", "curve", "naive", "a run of its own per switch", 0.7),
        ("one sample, our loop", "loop", "theirs", "diffusers pipeline", 1.1),
    )
    return [
        {
            "benchmark": what,
            "ours_s": best[ours],
            "reference": reference,
            "reference_s": best[other],
            "ratio": best[ours] / best[other],
            "aim": aim,
            "note": f"{seeds} seeds, {steps} steps",
        }
        for what, ours, other, reference, aim in pairs
    ]

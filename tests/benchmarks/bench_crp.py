"""Reference samples of 200 channels in one pass over the data, beside the pass itself and beside one per channel."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from shared.hooks import capture
from shared.lrp import EpsilonPlus, attribute, reference_banks

CHANNELS, IMAGES, BATCH = 200, 256, 64


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` repeats less. CPU seconds of this process."""
    repeats = 1 if quick else 3
    convs = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, CHANNELS, 3), nn.ReLU()]
    model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)).eval()
    x = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {"composite": EpsilonPlus(), "batch_size": BATCH}

    def passes() -> None:
        with torch.no_grad(), capture(model, "4"):
            for part in x.split(BATCH):
                model(part)

    active = _seconds(lambda: reference_banks(model, "4", x, of="activation", k=40, batch_size=BATCH), repeats)
    relevant = _seconds(lambda: reference_banks(model, "4", x, 0, k=40, **options), repeats)
    plain = _seconds(lambda: attribute(model, x, 0, record="4", **options), repeats)
    single = _seconds(lambda: attribute(model, x, 0, conditions={"4": 0}, record="4", **options), 1)
    note = f"{CHANNELS} channels, {IMAGES} images of 32 px, k = 40"
    return [
        _row("200 reference banks (ActMax)", active, "the forward passes alone", _seconds(passes, repeats), 1.5, note),
        _row("200 reference banks (RelMax)", relevant, "the attributions alone", plain, 1.3, note),
        _row("200 reference banks (RelMax)", relevant, "a pass per channel", CHANNELS * single, 0.02, note),
    ]


def _seconds(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def _row(benchmark: str, ours: float, reference: str, theirs: float, aim: float, note: str) -> dict:
    row = {"benchmark": f"lrp: {benchmark}", "ours_s": ours, "reference": reference, "reference_s": theirs}
    return row | {"ratio": ours / theirs, "aim": aim, "note": note}


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)

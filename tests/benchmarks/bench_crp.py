"""CRP: reference samples of 200 channels in one pass; maps of all concepts of a 3-D network in one call."""

from __future__ import annotations

import torch
from clock import cpu_seconds, ratio_row
from torch import nn

from shared.hooks import capture
from shared.lrp import EpsilonPlus, attribute, reference_banks
from shared.nets import graz_net

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

    active = cpu_seconds(lambda: reference_banks(model, "4", x, of="activation", k=40, batch_size=BATCH), repeats)
    relevant = cpu_seconds(lambda: reference_banks(model, "4", x, 0, k=40, **options), repeats)
    plain = cpu_seconds(lambda: attribute(model, x, 0, record="4", **options), repeats)
    single = cpu_seconds(lambda: attribute(model, x, 0, conditions={"4": 0}, record="4", **options), 1)
    note = f"{CHANNELS} channels, {IMAGES} images of 32 px, k = 40"
    return [
        ratio_row(
            "lrp: 200 reference banks (ActMax)",
            active,
            "the forward passes alone",
            cpu_seconds(passes, repeats),
            1.5,
            note,
        ),
        ratio_row("lrp: 200 reference banks (RelMax)", relevant, "the attributions alone", plain, 1.3, note),
        ratio_row("lrp: 200 reference banks (RelMax)", relevant, "a pass per channel", CHANNELS * single, 0.02, note),
        volumes(repeats),
    ]


def volumes(repeats: int) -> dict:
    """Maps of the eight concepts of a 3-D network beside as many plain gradients."""
    net, x = graz_net((28, 34, 28), stages=3, stride=2).eval(), torch.rand(8, 1, 28, 34, 28)
    each = [{"10": k} for k in range(8)]
    ours = cpu_seconds(lambda: attribute(net, x, 1, composite=EpsilonPlus(), conditions=each), repeats)

    def gradients() -> None:
        leaf = x.clone().requires_grad_()
        for _ in range(8):
            torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)

    plain = cpu_seconds(gradients, repeats)
    return ratio_row("lrp: maps of 8 concepts, 3-D", ours, "8 gradients", plain, 1.5, "8 volumes of 28 × 34 × 28")


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)

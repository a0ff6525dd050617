"""Feature visualisation: images made so that a unit fires, or so that a layer looks as real images make it look.

A *canvas* turns free numbers into images, *transforms* move these about before each step, an *objective* gives each
image its own loss: many targets in one batch don't touch each other.

>>> import torch
>>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
>>> net = torch.nn.Sequential(net, torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
>>> canvas = PixelCanvas(3, (1, 8, 8), generator=torch.Generator().manual_seed(0))
>>> done = render(net, logit([0, 1, 2]), canvas, steps=4, transforms=[roll_jitter(1)])
>>> done.images.shape, done.losses.shape
(torch.Size([3, 1, 8, 8]), torch.Size([4, 3]))
>>> references = sorted_features(net, ["0.0"], torch.rand(30, 1, 8, 8), groups=torch.arange(30) % 3)
>>> render(net, matching(references), canvas, steps=4).images.shape  # VITAL
torch.Size([3, 1, 8, 8])
"""

from shared.vision.visualise._canvas import Canvas, FourierCanvas, MacoCanvas, PixelCanvas, mean_spectrum
from shared.vision.visualise._matching import matching, sort_match, sorted_features, unit_range
from shared.vision.visualise._objectives import Objective, channel, direction, logit, neuron
from shared.vision.visualise._render import Rendering, render, total_variation
from shared.vision.visualise._transforms import (
    Transform,
    pad,
    random_crop,
    random_noise,
    random_turn,
    random_window,
    roll_jitter,
    standard_transforms,
)

__all__ = [
    "Canvas",
    "FourierCanvas",
    "MacoCanvas",
    "Objective",
    "PixelCanvas",
    "Rendering",
    "Transform",
    "channel",
    "direction",
    "logit",
    "matching",
    "mean_spectrum",
    "neuron",
    "pad",
    "random_crop",
    "random_noise",
    "random_turn",
    "random_window",
    "render",
    "roll_jitter",
    "sort_match",
    "sorted_features",
    "standard_transforms",
    "total_variation",
    "unit_range",
]

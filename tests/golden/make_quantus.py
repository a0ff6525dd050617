"""Make the golden arrays for the metrics tests with quantus. Not run by CI.

Run from the repository root in a throw-away environment with torch, `quantus==0.6.0` (install it with `--no-deps` where
it would change torch), opencv-python-headless, cachetools, scikit-image and scipy:

    python tests/golden/make_quantus.py
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import quantus
import torch
from torch import nn

FILE = Path(__file__).parent / "quantus.npz"
QUIET = {"disable_warnings": True, "display_progressbar": False}


class Net(nn.Module):
    """Three layers with names of their own, on 6 x 6 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(36, 20), nn.Linear(20, 12), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


def maps_of(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
    """Gradient x input (B, 1, 6, 6), signed."""
    x = torch.as_tensor(inputs, dtype=torch.float32).requires_grad_()
    model(x).gather(1, torch.as_tensor(targets)[:, None]).sum().backward()
    return (x.grad * x).detach().numpy()


class Recorder:
    """Remembers the maps it was asked for."""

    def __init__(self) -> None:
        self.maps: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []

    def __call__(self, model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **options: object) -> np.ndarray:
        self.maps.append(maps_of(model, inputs, targets, **options))
        self.targets.append(np.asarray(targets))
        return self.maps[-1]


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Net().eval()
    x, y = rng.standard_normal((5, 1, 6, 6)).astype(np.float32), rng.integers(0, 4, 5)
    a = maps_of(model, x, y)
    s = np.zeros((5, 1, 6, 6), dtype=bool)
    for row in range(5):
        top, left = rng.integers(0, 3, 2)
        s[row, :, top : top + 3, left : left + 3] = True
    arrays = {f"state.{name}": value.numpy() for name, value in model.state_dict().items()}
    arrays |= {"x": x, "y": y, "a": a, "s": s}

    flipping = quantus.PixelFlipping(
        features_in_step=4,
        perturb_baseline=0.25,
        abs=False,
        normalise=False,
        **QUIET,
    )
    call = {"model": model, "x_batch": x, "y_batch": y, "a_batch": a, "device": "cpu"}
    arrays["pixel_flipping"] = np.array(flipping(**call))
    located = {**call, "s_batch": s}
    plain = {"abs": False, "normalise": False, **QUIET}
    arrays["pointing_game"] = np.array(quantus.PointingGame(**plain)(**located), dtype=float)
    arrays["attribution_localisation"] = np.array(
        quantus.AttributionLocalisation(positive_attributions=True, **plain)(**located)
    )
    absolute = {**located, "a_batch": np.abs(a)}
    arrays["relevance_mass"] = np.array(quantus.RelevanceMassAccuracy(**plain)(**absolute))

    for order in ("top_down", "bottom_up", "independent"):
        recorder = Recorder()
        test = quantus.MPRT(layer_order=order, seed=1, abs=True, normalise=True, **QUIET)
        scores = test(**call, explain_func=recorder)
        layers = [name for name in scores if name != "original"]
        arrays[f"mprt.{order}.layers"] = np.array(layers)
        arrays[f"mprt.{order}.scores"] = np.array([scores[name] for name in layers])
        arrays[f"mprt.{order}.maps"] = np.stack(recorder.maps[-len(layers) :])

    recorder = Recorder()
    test = quantus.RandomLogit(
        similarity_func=quantus.functions.similarity_func.correlation_spearman, num_classes=4, abs=False, **QUIET
    )
    arrays["random_logit"] = np.array(test(**call, explain_func=recorder))
    arrays["random_logit.targets"] = recorder.targets[-1]
    arrays["random_logit.maps"] = recorder.maps[-1]
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()

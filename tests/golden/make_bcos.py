"""Make the golden arrays for B-cos layers with the authors' package, `bcos` 0.1.3. Not run by CI.

The argument is the folder that the package was unpacked into (`pip install --no-deps --target`): its layers are taken
without its `__init__`, which wants torchvision.

    PYTHONPATH=. python tests/golden/make_bcos.py /path/to/folder
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).resolve().parent / "bcos.npz"


def main(folder: str) -> None:
    """Outputs and squared outputs' gradients in explanation mode for three powers; the norm while it trains."""
    package = types.ModuleType("bcos")
    package.__path__ = [str(Path(folder) / "bcos")]
    sys.modules["bcos"] = package
    from bcos.modules.bcosconv2d import BcosConv2d
    from bcos.modules.norms.uncentered_norms.batchnorm_uncentered import BatchNormUncentered2d

    torch.manual_seed(0)
    x = torch.rand(2, 6, 9, 9)
    weight = torch.randn(4, 6, 3, 3)
    arrays = {"x": x, "weight": weight}
    for b in (1, 2, 2.5):
        conv = BcosConv2d(6, 4, 3, stride=2, padding=1, b=b)
        conv.linear.weight.data = weight
        arrays[f"y {b}"] = conv(x).detach()
        conv.set_explanation_mode(True)
        leaf = x.clone().requires_grad_()
        (arrays[f"slope {b}"],) = torch.autograd.grad(conv(leaf).square().sum(), leaf)
    norm = BatchNormUncentered2d(6, affine=True)
    arrays["norm"] = norm.train()(x).detach()
    arrays["running_var"] = norm.running_var
    np.savez_compressed(FILE, allow_pickle=False, **{name: value.numpy() for name, value in arrays.items()})


if __name__ == "__main__":
    main(sys.argv[1])

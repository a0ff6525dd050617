"""Golden arrays from the third-party package `dtsnejedi` (0.1.4): run in an environment that has it.

    python tests/golden/make_dtsnejedi.py

Its P and γ must equal ours; its final embedding starts elsewhere (standard deviation 1e-4) and takes other steps, so
only the KL divergence reached is comparable.
"""

from pathlib import Path

import numpy as np
from dtsnejedi.algorithms.dtsne import dtsne, x2p


def data() -> np.ndarray:
    rng = np.random.default_rng(7)
    centres = rng.uniform(0, 20, (3, 10))
    label = np.repeat([0, 1, 2], [80, 70, 50])
    return centres[label] + np.array([1.0, 2.0, 4.0])[label, None] * rng.standard_normal((200, 10))


if __name__ == "__main__":
    X = data()
    P, gamma = x2p(X, 1e-5, 20.0, True)
    P = P + P.T
    Y = dtsne(X, perplexity=20.0, n_iter=1000, dens=True, verbose=0)
    np.savez_compressed(
        Path(__file__).with_name("dtsnejedi.npz"),
        X=X,
        P=(P / P.sum()).astype(np.float32),
        gamma=gamma.astype(np.float32),
        Y=Y.astype(np.float32),
    )

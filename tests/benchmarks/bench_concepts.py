"""Costs of the concepts room: the relation pass, and a B-cos network's decisions split into concepts.

The relation pass stands beside scipy's sparse products and the dense product of the authors.
Codes of 12 active of 8,192 latents (as CFM/Insight's dictionary) and of 6 of 256. All give
the same C and D. CPU seconds of this process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from clock import cpu_seconds
from torch import Tensor

from shared.concepts import ComponentIndex, Cooccurrence, trace_concepts
from shared.nets import AddInverse, linear_map
from shared.sae import SAEConfig, SparseCodes, SparseDict
from shared.zoo import load_data, load_model

AIMS = {True: 0.5, False: 5.0}  # beside the dense products; beside scipy's, which neither add up nor keep patches


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` takes a quarter of the latents and patches."""
    passes = (row for rows, d, k in _sizes(quick) for row in _pass(rows, d, k))
    return [*passes, _trace(100 if quick else 400), _search(25_000 if quick else 100_000)]


def _search(components: int) -> dict:
    """One text among the vectors of many components, after indexing; exact in both."""
    from sklearn.neighbors import NearestNeighbors

    g = torch.Generator().manual_seed(0)
    vectors, text = torch.randn(components, 384, generator=g), torch.randn(1, 384, generator=g)
    index = ComponentIndex(vectors)
    peer = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors.numpy())
    asked = text.numpy()
    assert index.query(text)[1].tolist() == peer.kneighbors(asked, return_distance=False).tolist()
    ours, theirs = cpu_seconds(lambda: index.query(text)), cpu_seconds(lambda: peer.kneighbors(asked))
    return {
        "benchmark": f"one text query over {components:,} components of 384 dimensions",
        "ours_s": ours,
        "reference": "scikit-learn NearestNeighbors, brute cosine",
        "reference_s": theirs,
        "ratio": ours / theirs,
        "aim": 1.0,
        "note": "a product of matrices and a top-k; meant to take under 0.020 s at 100,000",
    }


def _trace(images: int) -> dict:
    """Contributions of all concepts, beside gradient × input of the network without a dictionary."""
    net = load_model("bcos-fashion").model.requires_grad_(False)
    sae = SparseDict(SAEConfig("topk", 64, 128, k=8, biases=False), generator=torch.Generator().manual_seed(0))
    x = AddInverse()(load_data("fashion-mnist", split="test").x[:images])
    target = net(x).argmax(1)
    ours = cpu_seconds(lambda: trace_concepts(net, "features.2", sae, x, target, channel_axis=1))
    whole = cpu_seconds(lambda: linear_map(net, x, target))
    return {
        "benchmark": f"{images} decisions split into 128 concepts",
        "ours_s": ours,
        "reference": "gradient × input of the network alone",
        "reference_s": whole,
        "ratio": ours / whole,
        "aim": 1.5,
        "note": "the gradient stops at the dictionary",
    }


def _sizes(quick: bool) -> list[tuple[int, int, int]]:
    return [(4096, 2048, 12), (4096, 256, 6)] if quick else [(4096, 8192, 12), (16_384, 256, 6)]


def _codes(rows: int, d: int, k: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    weight = 1 / torch.arange(1, d + 1).float()  # a few latents fire often, most seldom
    columns = torch.multinomial(weight.expand(rows, d), k, generator=rng)
    return torch.zeros(rows, d).scatter_(1, columns, 0.1 + torch.rand(rows, k, generator=rng))


def _pass(rows: int, d: int, k: int) -> list[dict]:
    dense = _codes(rows, d, k)
    sparse = SparseCodes.from_dense(dense)
    seen = Cooccurrence(d)
    seen.update(sparse)
    ours = cpu_seconds(lambda: seen.update(sparse))
    peers = {
        "scipy.sparse products": _scipy(sparse),
        "dense products in float32 (authors' code)": lambda: _dense(dense),
    }
    C, D = Cooccurrence(d).update(sparse).relations().joint, Cooccurrence(d).update(sparse).relations().mass
    table = []
    for name, call in peers.items():
        theirs_C, theirs_D = call()
        assert np.array_equal(C, theirs_C), name
        assert np.allclose(D, theirs_D, rtol=1e-4, atol=1e-3), name
        seconds = cpu_seconds(call, repeats=1 if "dense" in name else 3)
        note = "ours also keeps each latent's 30 strongest patches" + (
            "; a GPU does dense products far faster" * ("dense" in name)
        )
        table.append(
            {
                "benchmark": f"relations of {rows:,} patches, {k} of {d:,} latents",
                "ours_s": ours,
                "reference": name,
                "reference_s": seconds,
                "ratio": ours / seconds,
                "aim": AIMS["dense" in name],
                "note": note,
            }
        )
    return table


def _scipy(codes: SparseCodes) -> Callable[[], tuple[Any, Any]]:
    """Both products of compressed rows, made dense (as ours are)."""
    offsets, columns, values = (v.numpy() for v in (codes.pattern.offsets, codes.pattern.columns, codes.values))

    def call() -> tuple[Any, Any]:
        f = sp.csr_array((values.astype(np.float64), columns, offsets), shape=tuple(codes.shape))
        a = sp.csr_array((np.ones_like(f.data), columns, offsets), shape=f.shape)
        return (a.T @ a).toarray(), (f.T @ a).toarray()

    return call


def _dense(codes: Tensor) -> tuple[Any, Any]:
    fires = (codes > 1e-3).float()
    return (fires.T @ fires).numpy(), (codes.T @ fires).numpy()

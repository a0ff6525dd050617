"""XDA (Yolcu et al. 2025): why a training point matters, as heat maps on it and on the test point.

τ_i = α_ic ⟨f(x), f(x_i)⟩ is a weighted sum of either image's features, so LRP can carry it to either image's pixels: on
the training image with α_ic f(x) as weights of its features, on the test image with α_ic f(x_i).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_range, copied
from shared.influence._classifier import TrainedClassifier
from shared.influence._dual import DualDA
from shared.lrp import Composite, EpsilonPlus, attribute


@dataclass(frozen=True)
class PairMaps:
    """Heat maps of M pairs of a test point and a training point.

    Parameters
    ----------
    indices : Tensor
        The training points `(M,)`.
    score : Tensor
        τ `(M,)`.
    train, test : Tensor
        Its relevance `(M, C, H, W)` on the training and on the test image.
    train_gap, test_gap : Tensor
        What biases and stabilisers kept `(M,)`: score minus the map's sum.
    """

    indices: Tensor
    score: Tensor
    train: Tensor
    test: Tensor
    train_gap: Tensor
    test_gap: Tensor


def explain_pairs(
    method: DualDA,
    x: Tensor,
    indices: Tensor,
    target: int | None = None,
    *,
    composite: Composite | None = None,
    batch_size: int | None = None,
) -> PairMaps:
    """XDA for one test input and some training points.

    Parameters
    ----------
    method : DualDA
        Fitted, without `normalise`.
    x : Tensor
        Test input `(C, H, W)`.
    indices : Tensor
        Numbers of the training points `(M,)`, or one.
    target : int, optional
        Class; by default the network's prediction.
    composite : Composite, optional
        LRP's rules; by default `EpsilonPlus()`, as in the paper.
    batch_size : int, optional
        Images per backward pass; by default the network's.

    Returns
    -------
    PairMaps
        Of M pairs.

    Raises
    ------
    ValueError
        Z-scored features, whose inner product isn't one of features; a network that is its head only.
    """
    net = _explainable(method)
    check_array("x", x, tuple(net.x.shape[1:]))
    indices = torch.as_tensor(indices, device=net.y.device)
    indices = indices[None] if indices.ndim == 0 else indices
    check_array("indices", indices, ("M",))
    features = net.features(x[None])
    c = int(net.logits(features).argmax(1)) if target is None else int(target)
    alpha = method.alpha_[indices, c][:, None]
    others = net.train_features[indices]
    score = (alpha * others * features).sum(1)
    images = net.placed(net.x[indices.to(net.x.device)])
    copies = net.placed(x[None]).expand(len(indices), *x.shape).contiguous()
    train = _maps(net, images, alpha * features, composite, batch_size)
    test = _maps(net, copies, alpha * others, composite, batch_size)
    return PairMaps(indices, score, train, test, score - train.flatten(1).sum(1), score - test.flatten(1).sum(1))


def class_map(method: DualDA, x: Tensor, target: int | None = None, *, composite: Composite | None = None) -> Tensor:
    """Relevance of the SVM's class score without intercept: all pairs' maps on the test image, summed.

    Parameters
    ----------
    method : DualDA
        Fitted, without `normalise`.
    x : Tensor
        Test input `(C, H, W)`.
    target : int, optional
        Class; by default the network's prediction.
    composite : Composite, optional
        LRP's rules; by default `EpsilonPlus()`, as in the paper.

    Returns
    -------
    Tensor
        `(C, H, W)`.
    """
    net = _explainable(method)
    check_array("x", x, tuple(net.x.shape[1:]))
    features = net.features(x[None])
    c = int(net.logits(features).argmax(1)) if target is None else int(target)
    return _maps(net, net.placed(x[None]), method.svm.coef_[c][None].to(features), composite)[0]


def _explainable(method: DualDA) -> TrainedClassifier:
    if not isinstance(method, DualDA):
        raise TypeError(f"method must be a DualDA; got {type(method).__name__}")
    if method.normalise:
        raise ValueError("XDA needs DualDA without normalise: z-scores have a constant part that no pixel carries")
    if not method.fitted.head:
        raise ValueError('the network is its head only (head=""), so there are no pixels to explain')
    return method.fitted


def _maps(
    net: TrainedClassifier, x: Tensor, weights: Tensor, composite: Composite | None, batch_size: int | None = None
) -> Tensor:
    """Relevance of images (M, C, H, W) for weighted sums of their features, weights (M, d)."""
    size = net.batch_size if batch_size is None else batch_size
    check_range("batch_size", size, 1)
    model = feature_model(net)
    parts = zip(x.split(size), weights.split(size), strict=True)
    return torch.cat([attribute(model, a, b, composite=composite or EpsilonPlus()).relevance for a, b in parts])


def feature_model(net: TrainedClassifier) -> nn.Module:
    """The network without its head: inputs -> features (a copy, made once)."""
    made = net.__dict__.get("_feature_model")
    if made is None:
        made = copied("model", net.model)
        parent, _, name = net.head.rpartition(".")
        setattr(made.get_submodule(parent) if parent else made, name, nn.Identity())
        net.__dict__["_feature_model"] = made
    return made

"""XDA (Yolcu et al. 2025): why a training point matters, as heat maps on it and on the test point.

τ_i = α_ic ⟨f(x), f(x_i)⟩ is a weighted sum of either image's features, so LRP can carry it to either image's pixels: on
the training image with α_ic f(x) as weights of its features, on the test image with α_ic f(x_i).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import check_shape
from shared.influence._classifier import Classifier
from shared.influence._dual import DualDA
from shared.lrp import Composite, EpsilonPlus, attribute


@dataclass(frozen=True)
class PairMaps:
    """Heat maps of M pairs of a test point and a training point.

    `score` (M,) is τ; `train` and `test` (M, C, H, W) are its relevance on the training and on the test image; what
    biases and stabilisers kept is `train_gap` and `test_gap` (M,): score minus the map's sum.
    """

    indices: Tensor
    score: Tensor
    train: Tensor
    test: Tensor
    train_gap: Tensor
    test_gap: Tensor


def explain_pairs(
    method: DualDA, x: Tensor, indices: Tensor, target: int | None = None, composite: Composite | None = None
) -> PairMaps:
    """XDA for one test input x (C, H, W) and the training points `indices` (M,).

    `target` defaults to the network's prediction; `composite` (LRP's rules) to `EpsilonPlus()`, as in the paper.
    Raises `ValueError` for z-scored features, whose inner product isn't one of features, and for a network that is
    its head only.
    """
    net = _explainable(method)
    check_shape("x", x, tuple(net.x.shape[1:]))
    indices = torch.as_tensor(indices, device=net.y.device).flatten()
    features = net.features(x[None])
    c = int(net.logits(features).argmax(1)) if target is None else int(target)
    alpha, others = method.alpha_[indices, c][:, None], net.train_features[indices]
    score = (alpha * others * features).sum(1)
    device = features.device
    train = _maps(net, net.x[indices.to(net.x.device)].to(device), alpha * features, composite)
    test = _maps(net, x[None].to(device).expand(len(indices), *x.shape).contiguous(), alpha * others, composite)
    return PairMaps(indices, score, train, test, score - train.flatten(1).sum(1), score - test.flatten(1).sum(1))


def class_map(method: DualDA, x: Tensor, target: int | None = None, composite: Composite | None = None) -> Tensor:
    """Relevance (C, H, W) of the SVM's class score without intercept: all pairs' maps on the test image, summed."""
    net = _explainable(method)
    check_shape("x", x, tuple(net.x.shape[1:]))
    features = net.features(x[None])
    c = int(net.logits(features).argmax(1)) if target is None else int(target)
    return _maps(net, x[None].to(features.device), method.svm.coef_[c][None].to(features), composite)[0]


def _explainable(method: DualDA) -> Classifier:
    if not isinstance(method, DualDA):
        raise TypeError(f"method must be a DualDA; got {type(method).__name__}")
    if method.normalise:
        raise ValueError("XDA needs DualDA without normalise: z-scores have a constant part that no pixel carries")
    if not method.fitted.head:
        raise ValueError('the network is its head only (head=""), so there are no pixels to explain')
    return method.fitted


def _maps(net: Classifier, x: Tensor, weights: Tensor, composite: Composite | None) -> Tensor:
    return attribute(feature_model(net), x, weights, composite=composite or EpsilonPlus()).relevance


def feature_model(net: Classifier) -> nn.Module:
    """The network without its head: inputs -> features (a copy, made once)."""
    made = net.__dict__.get("_feature_model")
    if made is None:
        made = copy.deepcopy(net.model)
        parent, _, name = net.head.rpartition(".")
        setattr(made.get_submodule(parent) if parent else made, name, nn.Identity())
        net.__dict__["_feature_model"] = made
    return made

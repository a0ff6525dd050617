"""Similarity of features: the baselines that know no training."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_choice
from shared.influence._base import Attributor
from shared.influence._classifier import TrainedClassifier
from shared.stats import unit_norm

KINDS = ("dot", "cosine", "l2")


class Similarity(Attributor):
    """Inner product, cosine or negative distance of features.

    Parameters
    ----------
    kind : str
        "dot", "cosine" or "l2" (negative distance).
    signed : bool
        Multiply by +1 for training points of the explained class and by -1 for the others, as DualXDA's similarity
        baseline does.
    """

    def __init__(self, *, kind: str = "cosine", signed: bool = False) -> None:
        self.kind = check_choice("kind", kind, KINDS)
        self.signed = signed
        self.name = f"similarity, {kind}" + (", signed" if signed else "")

    def _fit(self, net: TrainedClassifier) -> None:
        net.train_features  # noqa: B018 (computed here, so that fitting bears its cost)

    def _compare(self, a: Tensor, b: Tensor) -> Tensor:
        if self.kind == "l2":
            return -torch.cdist(a, b)
        return unit_norm(a, dim=1) @ unit_norm(b, dim=1).T if self.kind == "cosine" else a @ b.T

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        tau = self._compare(features, self.fitted.train_features)
        return torch.where(targets[:, None] == self.fitted.y, tau, -tau) if self.signed else tau

    def _self_influence(self, net: TrainedClassifier) -> Tensor:
        squares = net.train_features.square().sum(1)
        return {"dot": squares, "cosine": (squares > 0).to(squares), "l2": torch.zeros_like(squares)}[self.kind]

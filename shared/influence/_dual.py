"""Kernel expansions of a last layer: DualDA (Yolcu et al. 2025) and representer points (Yeh et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_range, wide
from shared.influence._base import Attributor
from shared.influence._classifier import TrainedClassifier
from shared.influence._svm import CrammerSingerSVM


class Expansion(Attributor):
    """τ_i(x, c) = α_ic ⟨f(x), f_i⟩, for a head whose weights are w_c = Σ_i α_ic f_i.

    Training points with no non-zero coefficient are dropped once, so that a test point costs as many inner products
    as there are support vectors.
    """

    alpha_: Tensor  # (N, K)

    def _keep(self, alpha: Tensor, features: Tensor) -> None:
        self.alpha_ = alpha
        self.support_ = (alpha.abs() > 1e-10 * alpha.abs().max()).any(1).nonzero().flatten()
        self._columns = alpha[self.support_].T.contiguous()  # (K, S)
        self._supporters = features[self.support_]  # (S, D)

    def _expanded(self, features: Tensor) -> Tensor:
        return features

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        scores = (self._expanded(features) @ self._supporters.T).mul_(self._columns[targets])
        if len(self.support_) == len(self.alpha_):
            return scores
        tau = scores.new_zeros(len(x), len(self.alpha_))
        tau[:, self.support_] = scores
        return tau

    def _self_influence(self, net: TrainedClassifier) -> Tensor:
        squares = self._expanded(net.train_features).square().sum(1)
        return self.alpha_.gather(1, net.y[:, None]).squeeze(1) * squares


class DualDA(Expansion):
    """Attribution through a multi-class SVM on the network's features (Yolcu et al. 2025).

    τ_i(x, c) = α_ic ⟨f(x), f_i⟩ and Σ_i τ_i(x, c) + b_c is the SVM's score of class c: exact for the SVM, which stands
    in for the network's head. Sparse: points off the margin have α_i = 0. A point's self-influence is α_{i y_i} |f_i|².

    Parameters
    ----------
    C : float
        See `CrammerSingerSVM`; the paper evaluates 1e-1, 1e-3 and 1e-5 on unscaled features.
    normalise : bool
        Explain z-scores of the features (constant columns are left at zero) instead of the features.
    **options
        Further arguments of `CrammerSingerSVM`.
    """

    def __init__(self, *, C: float = 1e-3, normalise: bool = False, **options: object) -> None:
        self.svm = CrammerSingerSVM(C=C, **options)
        self.normalise = normalise
        self.name = f"DualDA, C={C:g}"

    def _fit(self, net: TrainedClassifier) -> None:
        features = net.train_features
        self.shift_ = features.new_zeros(features.shape[1])
        self.scale_ = features.new_ones(features.shape[1])
        if self.normalise:
            deviation = features.std(0, unbiased=False)
            self.shift_ = features.mean(0)
            self.scale_ = torch.where(deviation > 1e-6 * deviation.max(), deviation, torch.inf)
        missing = set(range(net.n_classes)) - set(net.y.unique().tolist())
        if missing:
            raise ValueError(f"y has no training point of class {sorted(missing)}, which the head knows")
        z = self._expanded(features)
        self.svm.fit(z, net.y)
        self._keep(self.svm.alpha_.to(z), z)

    def _expanded(self, features: Tensor) -> Tensor:
        return (features - self.shift_) / self.scale_ if self.normalise else features

    def scores(self, x: Tensor) -> Tensor:
        """The SVM's scores of inputs: Σ_i τ_i + b_c.

        Parameters
        ----------
        x : Tensor
            Inputs `(T, …)` shaped like the training data.

        Returns
        -------
        Tensor
            `(T, K)` float64.
        """
        return self.svm.decision_function(self._expanded(self.fitted.features(x)))


class RepresenterPoints(Expansion):
    """α_ic = -(p_ic - q_ic) / (2 λ N): the head refitted with an ℓ2 penalty to the network's own probabilities q.

    min over W of (1/N) Σ_i CE(q_i, softmax(W f_i)) + λ |W|², solved to its stationary point, where the logits are
    Σ_i α_ic ⟨f(x), f_i⟩. Features get a constant column where the head has a bias.

    Parameters
    ----------
    l2 : float
        λ.
    max_iterations : int
        Of L-BFGS.
    kept : float
        Share of the coefficients that is kept, the largest; the others are set to zero (DualXDA's control, which asks
        whether sparsity could be had for nothing).
    """

    def __init__(self, *, l2: float = 3e-3, max_iterations: int = 1000, kept: float = 1.0) -> None:
        check_range("l2", l2, 1e-12)
        check_range("kept", kept, 0.0, 1.0)
        self.kept = kept
        self.name = "representer points" if kept == 1.0 else "representer points, sparsified"
        self.l2 = l2
        self.max_iterations = max_iterations

    def _fit(self, net: TrainedClassifier) -> None:
        X = net.augmented(net.train_features)
        q = wide(net.logits(net.train_features)).softmax(1)
        self._keep(self._solved(X, q).to(X), X)

    @torch.inference_mode(False)
    def _solved(self, X: Tensor, q: Tensor) -> Tensor:
        """Coefficients (N, K); tensors made in inference mode are copied, since they take no part in a gradient."""
        F, q = wide(X).clone(), q.clone()
        W = F.new_zeros(q.shape[1], F.shape[1], requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [W], max_iter=self.max_iterations, tolerance_grad=1e-7, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = torch.nn.functional.cross_entropy(F @ W.T, q) + self.l2 * W.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        self.weight_ = W.detach()
        self.gradient_ = float(W.grad.abs().max())
        alpha = (q - (F @ self.weight_.T).softmax(1)) / (2 * self.l2 * len(F))
        if self.kept < 1.0:
            dropped = alpha.abs().flatten().argsort()[: round((1 - self.kept) * alpha.numel())]
            alpha.view(-1)[dropped] = 0.0
        return alpha

    def _expanded(self, features: Tensor) -> Tensor:
        return self.fitted.augmented(features)

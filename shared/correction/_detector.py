"""Says which samples show an artifact."""

from __future__ import annotations

from torch import Tensor

from shared._checks import check_array
from shared.probes import SVMProbe
from shared.stats import deviations


class ArtifactDetector:
    """A balanced linear SVM on pooled activations, each divided by its standard deviation in the training set.

    Parameters
    ----------
    C : inverse penalty of the SVM.
    """

    def __init__(self, *, C: float = 1.0) -> None:
        self.C = C

    def fit(self, H: Tensor, y: Tensor) -> ArtifactDetector:
        """Learn from samples with and without the artifact.

        Parameters
        ----------
        H : pooled activations (n, d).
        y : (n,), 1 with the artifact, else 0; two of each at least.

        Returns
        -------
        The detector.
        """
        check_array("H", H, ("n", "d"))
        check_array("y", y, (len(H),))
        self._size = deviations(H)
        self._svm = SVMProbe(C=self.C, class_weight="balanced").fit(H / self._size, y)
        return self

    def decision_function(self, H: Tensor) -> Tensor:
        """Signed distances; positive: artifact.

        Parameters
        ----------
        H : pooled activations (n, d).

        Returns
        -------
        (n,).
        """
        if not hasattr(self, "_svm"):
            raise ValueError("the detector isn't fitted; call fit(H, y) first")
        return self._svm.decision_function(H / self._size.to(H))

    def predict(self, H: Tensor) -> Tensor:
        """Whether samples show the artifact; calling the detector does the same.

        Parameters
        ----------
        H : pooled activations (n, d).

        Returns
        -------
        Booleans (n,).
        """
        return self.decision_function(H) > 0

    __call__ = predict

"""Any classifier queried with text: its features in a text encoder's space (TextUnlock), and two plain rivals."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm.auto import trange

from shared._checks import check_array, check_choice, check_range, wide
from shared.hooks import capture, find_module, graph_mode, model_device, refuse_compiled, refuse_training
from shared.nets import logits_of

SIMILARITIES = ("cosine", "dot")


@torch.no_grad()
def head_features(model: nn.Module, head: str, images: Tensor, *, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """What a classifier's last, linear layer is given, and the logits it makes of it.

    Parameters
    ----------
    model : Module
        In eval mode; gives logits (B, K), or an object with `.logits`.
    head : str
        Name of the last layer, an `nn.Linear`.
    images : Tensor, shape (B, C, H, W)
        As the model wants them.
    batch_size : int
        Images per forward pass.

    Returns
    -------
    features : Tensor, shape (B, n)
        On the CPU.
    logits : Tensor, shape (B, K)
        On the CPU.

    Raises
    ------
    ValueError
        Images that the model can't take, smaller than a patch say; a head that isn't linear, or whose answer isn't the
        model's.
    """
    layer = find_module(model, head)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"head={head!r} is a {type(layer).__name__}; it must be the model's last layer, an nn.Linear")
    refuse_training(model)
    refuse_compiled(model)
    check_array("images", images, ("B", "C", "H", "W"))
    check_range("batch_size", batch_size, 1)
    features, logits = [], []
    for part in images.split(batch_size):
        with capture(model, head, at="input") as seen:
            answer = _answers(model, part)
        again = layer(seen[head])
        if again.shape != answer.shape or not torch.allclose(again, answer, rtol=1e-3, atol=1e-3):
            raise ValueError(f"head={head!r} isn't the model's last layer: its answer differs from the model's logits")
        features.append(seen[head].cpu())
        logits.append(answer.cpu())
    return torch.cat(features), torch.cat(logits)


class TextUnlock:
    """A small network from a frozen classifier's features into a text encoder's space (Sammani et al., TextUnlock).

    It is trained so that the softmax of the similarities between a mapped feature and the vectors of the class names is
    the classifier's own distribution over classes. No labels and no pairs of image and text are used; afterwards the
    mapped feature is compared with the vector of any text.

    Parameters
    ----------
    hidden : int or None
        Width of the hidden layer; None maps linearly.
    similarity : "cosine" or "dot"
        Cosine divides by a temperature that is learned; the published sources leave it open.
    dropout : float
        In the hidden layer.
    epochs, batch_size : int
        Passes over the features, and rows per step.
    lr, weight_decay : float
        Of AdamW; the learning rate falls to zero along a half cosine.
    random_state : int
        Seeds initial weights, order and dropout.
    progress : bool
        Show a bar over epochs.

    Attributes
    ----------
    network_ : nn.Module
        From standardised features to vectors.
    temperature_ : float
        What cosines are divided by; 1 for "dot".
    divergence_ : float
        Mean Kullback–Leibler divergence from the classifier's distribution in the last epoch, in nats.

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> features, names = torch.randn(300, 8, generator=g), torch.eye(4)
    >>> answers = (3 * features[:, :4]).softmax(1)
    >>> mapped = TextUnlock(hidden=32, epochs=40, lr=0.01).fit(features, answers, names).transform(features)
    >>> bool(((mapped @ names.T).argmax(1) == answers.argmax(1)).float().mean() > 0.9)
    True
    """

    def __init__(
        self,
        *,
        hidden: int | None = 512,
        similarity: Literal["cosine", "dot"] = "cosine",
        dropout: float = 0.1,
        epochs: int = 20,
        batch_size: int = 256,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        random_state: int = 0,
        progress: bool = False,
    ) -> None:
        self.hidden = hidden
        self.similarity = similarity
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.progress = progress

    def fit(self, features: Tensor, targets: Tensor, class_vectors: Tensor) -> TextUnlock:
        """Train the map on features and the classifier's answers to them.

        Parameters
        ----------
        features : Tensor, shape (N, n)
            Before the classifier's head.
        targets : Tensor, shape (N, K)
            The classifier's distribution over its classes: rows sum to one.
        class_vectors : Tensor, shape (K, m)
            Text vectors of the class names, no two alike; scaled to length one here.

        Returns
        -------
        TextUnlock
            Itself, fitted.
        """
        check_choice("similarity", self.similarity, SIMILARITIES)
        check_range("epochs", self.epochs, low=1)
        check_range("batch_size", self.batch_size, low=1)
        check_array("features", features, ("N", None))
        with graph_mode():
            names = _unit("class_vectors", class_vectors).detach().float()
            _refuse_doubles(names)
            _check_distributions("targets", targets, len(features), len(names))
            features = features.detach().float()
            self._mean = features.mean(0)
            self._scale = features.std(0, correction=0) + 1e-2 * features.std(correction=0).clamp(min=1e-6)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.random_state)
                self._train((features - self._mean) / self._scale, targets.detach().float(), names)
        return self

    def transform(self, features: Tensor) -> Tensor:
        """Features in the text encoder's space.

        Parameters
        ----------
        features : Tensor, shape (N, n)

        Returns
        -------
        Tensor, shape (N, m)
            Unit vectors under "cosine".
        """
        if not hasattr(self, "network_"):
            raise ValueError("this TextUnlock isn't fitted; call fit first")
        check_array("features", features, ("N", len(self._mean)))
        with torch.no_grad():
            mapped = self.network_((features.float() - self._mean) / self._scale)
        return normalize(mapped, dim=1) if self.similarity == "cosine" else mapped

    def _train(self, inputs: Tensor, targets: Tensor, names: Tensor) -> None:
        cosine = self.similarity == "cosine"
        network = self._network(inputs.shape[1], names.shape[1]).to(inputs)
        log_temperature = nn.Parameter(torch.tensor(0.07 if cosine else 1.0).log().to(inputs), requires_grad=cosine)
        learned = [*network.parameters(), log_temperature]
        optimiser = torch.optim.AdamW(learned, lr=self.lr, weight_decay=self.weight_decay)
        batches = -(-len(inputs) // self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs * batches)
        for _ in trange(self.epochs, disable=not self.progress, desc="TextUnlock", leave=False):
            losses = []
            for rows in torch.randperm(len(inputs)).split(self.batch_size):
                mapped = network(inputs[rows])
                mapped = normalize(mapped, dim=1) if cosine else mapped
                answers = (mapped @ names.T / log_temperature.exp()).log_softmax(1)
                loss = nn.functional.kl_div(answers, targets[rows], reduction="batchmean")
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                losses.append(loss.detach())
        self.network_ = network.eval()
        self.temperature_ = float(log_temperature.detach().exp())
        self.divergence_ = float(torch.stack(losses).mean())

    def _network(self, width: int, out: int) -> nn.Module:
        if self.hidden is None:
            return nn.Linear(width, out)
        inner = [nn.Linear(width, self.hidden), nn.LayerNorm(self.hidden), nn.GELU(), nn.Dropout(self.dropout)]
        return nn.Sequential(*inner, nn.Linear(self.hidden, out))


def class_average(probabilities: Tensor, class_vectors: Tensor, *, top: int | None = None) -> Tensor:
    """The mean of the class names' vectors under the classifier's distribution: no training at all (ConSE).

    Norouzi et al. 2013, "Zero-shot learning by convex combination of semantic embeddings".

    Parameters
    ----------
    probabilities : Tensor, shape (N, K)
        The classifier's distribution; rows sum to one.
    class_vectors : Tensor, shape (K, m)
    top : int, optional
        Only so many most probable classes of each row.

    Returns
    -------
    Tensor, shape (N, m)
        Unit vectors.

    Examples
    --------
    >>> class_average(torch.tensor([[0.8, 0.2]]), torch.eye(2)).round(decimals=2).tolist()
    [[0.9700000286102295, 0.23999999463558197]]
    """
    names = _unit("class_vectors", class_vectors)
    _check_distributions("probabilities", probabilities, len(probabilities), len(names))
    names = names.to(probabilities)
    if top is not None:
        check_range("top", top, low=1, high=len(names))
        least = probabilities.topk(top, dim=1).values[:, -1:]
        probabilities = probabilities * (probabilities >= least)
    return normalize(probabilities @ names, dim=1)


def closed_form_map(head_weight: Tensor, class_vectors: Tensor, *, ridge: float = 1.0) -> Tensor:
    """The linear map whose similarities to the class names come nearest to the classifier's logits; no images needed.

    Minimises ‖U A − W‖² + ridge ‖A‖² over A, for names U and head weights W less their means over classes, which move
    all logits alike.

    Parameters
    ----------
    head_weight : Tensor, shape (K, n)
        Of the classifier's last, linear layer.
    class_vectors : Tensor, shape (K, m)
    ridge : float
        Penalty, above zero, in units of a squared text vector (those have length one).

    Returns
    -------
    Tensor, shape (m, n)
        A: a feature f is taken to A f.

    Examples
    --------
    >>> closed_form_map(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.eye(2), ridge=0.0001).round().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    names = _unit("class_vectors", class_vectors)
    check_array("head_weight", head_weight, (len(names), None))
    check_range("ridge", ridge, low=1e-12)
    names, weight = (wide(rows - rows.mean(0)) for rows in (names, head_weight))
    gram = names.T @ names + ridge * torch.eye(names.shape[1]).to(names)
    return torch.linalg.solve(gram, names.T @ weight).to(head_weight)


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    try:
        return logits_of(model, images.to(model_device(model)))
    except RuntimeError as error:
        size = tuple(images.shape[1:])
        raise ValueError(f"images of {size} don't go through {type(model).__name__}: {error}") from error


def _unit(argument: str, vectors: Tensor) -> Tensor:
    """Text vectors at length one; none may be zero."""
    check_array(argument, vectors, ("K", None))
    norms = vectors.norm(dim=1, keepdim=True)
    if (empty := (norms == 0).flatten().nonzero().flatten().tolist()) != []:
        raise ValueError(f"{argument} has rows of length zero ({empty[:5]}); every text needs a direction")
    return vectors / norms


def _refuse_doubles(names: Tensor) -> None:
    for first, block in enumerate(names.split(1024)):
        alike = (block @ names.T).triu(diagonal=first * 1024 + 1) > 1 - 1e-6
        if alike.any():
            one, other = alike.nonzero()[0].tolist()
            pair = f"{one + first * 1024} and {other}"
            raise ValueError(f"class_vectors has equal rows ({pair}): two classes of one name can't be told apart")


def _check_distributions(argument: str, values: Tensor, rows: int, classes: int) -> None:
    check_array(argument, values, (rows, classes))
    off = float((values.float().sum(1) - 1).abs().max())
    if bool((values < 0).any()) or off > 1e-2:  # what half precision keeps of a sum
        raise ValueError(f"{argument} is no distribution over classes: rows are >= 0 and sum to 1 (off by {off:.2g})")

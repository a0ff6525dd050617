"""Data sets and loaders in place of tensors, chunks of test points, and the best scores without the matrix."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from shared.influence import TRAK, DualDA, InfluenceFunctions, Similarity, TracIn, TrainedClassifier, explain_pairs

METHODS = [
    DualDA(C=0.1),
    Similarity(kind="cosine"),
    TracIn(layers="all"),
    TRAK(projection=8),
    InfluenceFunctions(solver="exact"),
    InfluenceFunctions(solver="lissa", depth=5),
    InfluenceFunctions(solver="cg", layers="all", max_iterations=5, tol=0.0),
]


class Counted(Dataset):
    """Pairs, and how many inputs were ever held at once."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], int(self.y[row])


@pytest.fixture(scope="module")
def lazy(conv):
    return TrainedClassifier(conv.model, Counted(conv.x, conv.y), head=conv.head, batch_size=7)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_data_set_gives_the_tensors_scores(conv, lazy, method):
    x = conv.x[:5]
    whole = method.fit(conv).attribute(x)
    torch.testing.assert_close(method.attribute(x, batch_size=2), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.fit(lazy).attribute(Counted(x, conv.y)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("largest", [True, False])
def test_the_best_are_the_matrix_s(conv, batch_size, largest):
    method = DualDA(C=0.1).fit(conv)
    values, indices = method.top(conv.x[:9], 4, largest=largest, batch_size=batch_size)
    tau = method.attribute(conv.x[:9])
    torch.testing.assert_close(tau.gather(1, indices), values)
    torch.testing.assert_close(values, tau.sort(1, descending=largest).values[:, :4])


def test_only_a_chunk_of_scores_exists_at_a_time(conv, monkeypatch):
    method, seen = DualDA(C=0.1).fit(conv), []
    scores = method._attribute
    monkeypatch.setattr(method, "_attribute", lambda *a: seen.append(scores(*a)) or seen[-1])
    method.top(TensorDataset(conv.x[:9]), 2, batch_size=2)
    assert [len(part) for part in seen] == [2, 2, 2, 2, 1]


def test_a_loader_s_own_order_plays_no_part(conv):
    loader = DataLoader(TensorDataset(conv.x, conv.y), batch_size=4, shuffle=True)
    net = TrainedClassifier(conv.model, loader, head=conv.head)
    assert torch.equal(net.y, conv.y)
    torch.testing.assert_close(net.train_features, conv.train_features)


def test_heat_maps_of_a_data_set_s_points(conv, lazy):
    one, other = (explain_pairs(DualDA(C=0.1).fit(net), conv.x[0], torch.tensor([3, 1])) for net in (conv, lazy))
    torch.testing.assert_close(one.train, other.train)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("x", "y", "error", "name"),
    [
        (Stream(), None, ValueError, "x is a Stream"),
        (TensorDataset(torch.zeros(0, 1, 8, 8)), None, ValueError, "x is empty"),
        (TensorDataset(torch.zeros(4, 1, 8, 8)), None, ValueError, "give y"),
        (torch.zeros(4, 1, 8, 8), None, ValueError, "y is missing"),
        ([1, 2], None, TypeError, "x must be"),
    ],
)
def test_what_can_t_be_numbered_is_refused(conv, x, y, error, name):
    with pytest.raises(error, match=name):
        TrainedClassifier(conv.model, x, y, head=conv.head)


def test_a_missing_value_is_named_as_it_is_read(conv):
    x = conv.x.clone()
    x[3] = torch.nan
    net = TrainedClassifier(conv.model, TensorDataset(x, conv.y), head=conv.head)
    with pytest.raises(ValueError, match="x has"):
        DualDA(C=0.1).fit(net)

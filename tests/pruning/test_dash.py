"""DASH's scores: its equations, its limits, torch's own masks, orientation, and bad priors."""

import pytest
import torch
from torch.nn.utils import prune

from shared.nets import Phoenix
from shared.pruning import (
    DashPruner,
    dash_scores,
    iterative_prune,
    prior_loss,
    prior_matrix,
    prune_ranks,
    start_scores,
)
from shared.pruning._masks import kept_at

GENES, HIDDEN = 12, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(**options) -> Phoenix:
    return Phoenix(GENES, HIDDEN, generator=generator(), **options)


def edges(seed: int = 3) -> torch.Tensor:
    draw = torch.rand(GENES, GENES, generator=generator(seed))
    return (draw < 0.15).float() - (draw > 0.93).float()


def inverse_gram(omega: torch.Tensor) -> torch.Tensor:
    gram = omega @ omega.T
    return torch.linalg.inv(gram + 1e-6 * gram.trace() / HIDDEN * torch.eye(HIDDEN).double())


def test_the_equations_written_out():
    model, T = net(), edges()
    omega = start_scores(model, generator=generator(1))
    got = dash_scores(model, omega, T, strength=(0.3, 0.6))
    P = T.abs().double() @ T.abs().double().T
    P /= P.sum()
    W = {"sums": model.sums.detach().abs().double(), "products": model.products.detach().exp().double()}
    for inner, outer in (("sums", "out_sums"), ("products", "out_products")):
        O = omega[inner].double()  # noqa: E741
        B = inverse_gram(O) @ O @ P
        first = 0.7 * W[inner] / W[inner].sum() + 0.3 * B.abs()
        torch.testing.assert_close(got[inner], first, rtol=1e-5, atol=0)
        A = (getattr(model, outer).detach().abs() * model.rate.detach().relu()[:, None]).double()
        C = T.abs().double().T @ first.T @ inverse_gram(first)
        torch.testing.assert_close(got[outer], 0.4 * A / A.sum() + 0.6 * C.abs(), rtol=1e-4, atol=0)


def test_least_squares_is_what_it_solves():
    """C Ω is as near to |T|ᵀ as any other C's: its gradient vanishes."""
    model, T = net(), edges()
    got = dash_scores(model, start_scores(model, generator=generator(1)), T, strength=(1.0, 1.0))
    omega = got["sums"]
    C = torch.linalg.lstsq(omega.T, T.abs().double()).solution.T
    torch.testing.assert_close(got["out_sums"], C.abs(), rtol=1e-3, atol=1e-6)


def test_without_strength_it_is_pruning_by_size():
    model = net()
    got = dash_scores(model, start_scores(model), edges(), strength=(0.0, 0.0), product="abs")
    for name in ("sums", "products"):
        torch.testing.assert_close(
            got[name], model.get_parameter(name).abs().double() / model.get_parameter(name).abs().sum()
        )
    torch.testing.assert_close(got["sums"].sum(), torch.tensor(1.0).double())


def test_copies_with_their_own_priors_and_strengths():
    model, priors = net(copies=(2,)), torch.stack([edges(3), edges(4)])
    omega = start_scores(model, generator=generator(1))
    strengths = (torch.tensor([0.1, 1.0]), torch.tensor([0.2, 1.0]))
    got = dash_scores(model, omega, priors, strength=strengths)
    for i in range(2):
        one = Phoenix(GENES, HIDDEN)
        one.load_state_dict({name: value[i] for name, value in model.state_dict().items()})
        alone = dash_scores(
            one, {k: v[i] for k, v in omega.items()}, priors[i], strength=[float(s[i]) for s in strengths]
        )
        for name, score in alone.items():
            torch.testing.assert_close(score, got[name][i])


def test_masks_as_torch_prunes_step_by_step():
    model = net()
    scores = start_scores(model, generator=generator(1))
    peer = {name: torch.nn.Linear(*reversed(scores[name].shape)) for name in scores}
    kept = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    rate = 0.0
    for step, share in enumerate((0.7, 0.1, 0.1, 0.1)):
        scores = dash_scores(model, scores, edges())
        rate += (1 - rate) * share
        for name, score in scores.items():
            prune.l1_unstructured(peer[name], "weight", share, importance_scores=score)
            ranks = prune_ranks({name: torch.where(kept[name], score, -1.0)}, scope="layer")
            kept[name] = kept_at(ranks, int((peer[name].weight_mask == 0).sum()) / score.numel())[name]
            assert torch.equal(kept[name], peer[name].weight_mask.bool()), (name, step)


def test_as_a_method_of_iterative_pruning_what_is_gone_stays_exactly_zero():
    densities, model = [0.3 * 0.9**k for k in range(4)], net()
    x = torch.rand(16, GENES, generator=generator(2))
    counts = []

    def trained(model: Phoenix) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        counts.append(int((model.sums == 0).sum()))

    pruner = DashPruner(edges(), generator=generator(1))
    options = {"densities": densities, "train": trained, "method": pruner, "rewind": False, "scope": "layer"}
    masks = iterative_prune(model, [], None, None, **options, empty="allow")
    for name, mask in masks.items():
        assert mask.sum() == round(densities[-1] * mask.numel())
        assert (model.get_parameter(name)[~mask] == 0).all()
    assert counts[1:] == [GENES * HIDDEN - round(d * GENES * HIDDEN) for d in densities[:-1]]


def test_bioprune_does_not_read_the_weights():
    one, other = Phoenix(GENES, HIDDEN, generator=generator(5)), Phoenix(GENES, HIDDEN, generator=generator(6))
    made = [DashPruner(edges(), strength=(1.0, 1.0), generator=generator(1))(model) for model in (one, other)]
    for name, score in made[0].items():
        torch.testing.assert_close(score, made[1][name])


def test_a_chain_of_three_genes_tells_rows_from_columns():
    """The prior 0 -> 1 -> 2: only targets of known regulators are worth keeping in the last layers."""
    T = torch.zeros(3, 3)
    T[0, 1] = T[1, 2] = 1
    model = Phoenix(3, 2, generator=generator())
    got = dash_scores(model, start_scores(model, generator=generator(1)), T, strength=(1.0, 1.0))
    assert (got["out_sums"][0] < 1e-9).all()  # nothing regulates gene 0
    assert (got["out_sums"][1:].amax(1) > 1e-3).all()
    assert (got["sums"][:, 2] < 1e-9).all()  # gene 2 regulates nothing
    turned = dash_scores(model, start_scores(model, generator=generator(1)), T.T, strength=(1.0, 1.0))
    assert (turned["out_sums"][2] < 1e-9).all()


def test_the_prior_loss_written_out():
    model, x = net(), torch.rand(8, GENES, generator=generator(1)) - 0.5
    want = ((model.drive(x) - x @ edges()) ** 2).mean()
    torch.testing.assert_close(prior_loss(model, edges(), x), want)
    with torch.no_grad():
        model.out_sums.zero_()  # a drive of zero against edges: the prior's own size
        model.out_products.zero_()
    torch.testing.assert_close(prior_loss(model, edges(), x), (x @ edges()).square().mean())


def test_named_edges_make_a_prior():
    prior = prior_matrix([("a", "b"), ("c", "a")], ["a", "b", "c"], signs=[1, -1])
    assert prior.tolist() == [[0, 1, 0], [0, 0, 0], [-1, 0, 0]]


def test_unknown_genes_are_named_or_left_out():
    pairs = [("a", "b"), ("z", "a")]
    with pytest.raises(ValueError, match=r"edges name .*'z'"):
        prior_matrix(pairs, ["a", "b"])
    assert prior_matrix(pairs, ["a", "b"], unknown="drop").sum() == 1
    with pytest.raises(ValueError, match="genes"):
        prior_matrix(pairs, ["a", "a"])
    with pytest.raises(ValueError, match="signs"):
        prior_matrix(pairs, ["a", "b", "z"], signs=[1])


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (torch.ones(4, GENES), "prior has shape"),  # regulators only
        (torch.ones(GENES, 4), "prior has shape"),  # the other way round
        (torch.zeros(GENES, GENES), "no edges"),
        (torch.full((GENES, GENES), 0.5), "-1, 0 and 1"),
    ],
)
def test_bad_priors(prior, message):
    model = net()
    with pytest.raises(ValueError, match=message):
        dash_scores(model, start_scores(model), prior)
    with pytest.raises(ValueError, match=message):
        prior_loss(model, prior, torch.rand(2, GENES))


def test_bad_strengths():
    model = net()
    with pytest.raises(ValueError, match="strength"):
        dash_scores(model, start_scores(model), edges(), strength=(0.5, 1.5))
    with pytest.raises(ValueError, match="together"):
        dash_scores(model, start_scores(model), edges(), together=torch.ones(3, 3))


def test_a_prior_of_another_type_is_the_same_prior():
    model, x = net(), torch.rand(8, GENES, generator=generator(1)) - 0.5
    torch.testing.assert_close(prior_loss(model, edges().int(), x), prior_loss(model, edges(), x))

"""TCAV against its definition and captum's; layer gradients; the test's arithmetic."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from shared import hooks, probes


def test_gradients_from_finite_differences(net):
    model, x = net
    model, x = model.double(), x.double()
    gradient = probes.layer_gradients(model, "3", x, 2, reduce="sum")
    v = torch.randn(6, generator=torch.Generator().manual_seed(0)).double()
    with hooks.steer(model, {"3": v}, alpha=1e-4):
        up = model(x)[:, 2]
    with hooks.steer(model, {"3": v}, alpha=-1e-4):
        down = model(x)[:, 2]
    assert torch.allclose((up - down) / 2e-4, gradient @ v, atol=1e-6)
    full = probes.layer_gradients(model, "3", x, 2, reduce="none")
    assert full.shape == (10, 6, 8, 8)
    assert torch.allclose(full.sum((2, 3)), gradient)
    assert torch.allclose(probes.layer_gradients(model, "3", x, 2, batch_size=3), gradient / 64)


def test_scores_from_their_definition(net):
    model, x = net
    V = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    found = probes.tcav(model, "3", x, 1, V)
    S = probes.layer_gradients(model, "3", x, 1) @ V.T
    assert found.score.tolist() == pytest.approx((S > 0).double().mean(0).tolist())
    magnitude = [float(S[:, k][S[:, k] > 0].sum() / S[:, k].abs().sum()) for k in range(3)]
    assert found.magnitude.tolist() == pytest.approx(magnitude)
    opposite = probes.tcav(model, "3", x, 1, -V)
    assert (found.score + opposite.score).tolist() == pytest.approx([1, 1, 1])
    by_position = probes.tcav(model, "3", x, 1, V, reduce="none")
    assert by_position.per_sample.shape == (10, 64, 3)


def test_ties():
    G = torch.tensor([[1.0, 0], [0, 1], [0, -1], [-1, 0]])
    v = torch.tensor([1.0, 0])
    assert probes.tcav_scores(G, v).score.item() == 0.5
    assert probes.tcav_scores(G, v, ties="negative").score.item() == 0.25
    assert probes.tcav_scores(G, v).ties.item() == 2


def test_agrees_with_captum(net, tmp_path, monkeypatch):
    captum_tcav = pytest.importorskip("captum.concept")
    monkeypatch.chdir(tmp_path)
    model, x = net
    rng = torch.Generator().manual_seed(0)
    sets = [torch.rand(12, 3, 16, 16, generator=rng) * scale for scale in (1.0, 0.5)]

    class Pattern(captum_tcav.Classifier):
        """Difference of means of the flattened activations, in captum's interface."""

        def __init__(self):
            self.W = None

        def train_and_eval(self, dataloader, test_split_ratio=0.33, **kwargs):
            H, y = (torch.cat(part) for part in zip(*dataloader))
            first = H[y == y.min()].mean(0) - H[y != y.min()].mean(0)
            self.W, self.names = torch.stack([first, -first]), y.unique().tolist()
            return {"accs": torch.tensor(1.0)}

        def weights(self):
            return self.W

        def classes(self):
            return self.names

    concepts = [
        captum_tcav.Concept(i, name, torch.utils.data.DataLoader(images, batch_size=5))
        for i, (name, images) in enumerate(zip(("concept", "other"), sets))
    ]
    peer = captum_tcav.TCAV(model, layers=["3"], classifier=Pattern(), save_path=str(tmp_path / "cav"))
    theirs = peer.interpret(x, [concepts], target=1)["0-1"]["3"]

    H = [probes.activations(model, "3", images, pool="mean") for images in sets]
    maps = [model[:4](images).detach().flatten(1) for images in sets]
    v = (maps[0].mean(0) - maps[1].mean(0)).reshape(6, 8, 8)
    G = probes.layer_gradients(model, "3", x, 1, reduce="none")
    ours = probes.tcav_scores(G.flatten(1), v.flatten()[None], ties="negative")
    assert ours.score.item() == pytest.approx(float(theirs["sign_count"][0]))
    # captum 0.9 documents a share of positive sensitivity as its magnitude, but returns the mean sensitivity
    assert ours.per_sample.mean().item() == pytest.approx(float(theirs["magnitude"][0]), abs=1e-7)
    assert theirs["sign_count"].tolist() == pytest.approx([ours.score.item(), 1 - ours.score.item()])
    assert H[0].shape == (12, 6)


def test_significance():
    rng = np.random.default_rng(0)
    concept, random = rng.normal(0.8, 0.1, 15), rng.normal(0.5, 0.1, 20)
    found = probes.tcav_test(torch.from_numpy(concept), torch.from_numpy(random))
    peer = stats.ttest_ind(concept, random, equal_var=False)
    assert (found.t, found.p_value) == pytest.approx((peer.statistic, peer.pvalue))
    assert probes.tcav_test(torch.ones(3), torch.ones(3)).p_value == 1
    assert probes.tcav_test(torch.ones(3), torch.zeros(3)).p_value == 0


def test_activations_in_batches(net):
    model, x = net
    several = probes.activations(model, ["0", "3"], x, pool="max", batch_size=4)
    assert torch.allclose(several["3"], model[:4](x).amax((2, 3)))
    assert torch.allclose(probes.activations(model, "7", x, pool="none"), model(x))


def test_bad_input(net):
    model, x = net
    with pytest.raises(ValueError, match=r"closest: .*0\.3"):
        probes.tcav(nn.Sequential(model), "0.33", x, 1, torch.ones(6))
    with pytest.raises(ValueError, match=r"expected \(k, 6\)"):
        probes.tcav(model, "3", x, 1, torch.ones(5))
    direction = probes.fit_direction(torch.randn(8, 6), torch.arange(8) % 2, layer="0")
    with pytest.raises(ValueError, match="fitted at '0'"):
        probes.tcav(model, "3", x, 1, direction)
    with pytest.raises(ValueError, match="at least two"):
        probes.tcav_test(torch.ones(1), torch.ones(5))
    with pytest.raises(ValueError, match="can't be pooled by 'cls'"):
        probes.activations(model, "3", x, pool="cls")
    assert not any(m._forward_hooks for m in model.modules())

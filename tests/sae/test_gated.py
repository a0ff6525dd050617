"""Gated dictionaries in training, and as the JumpReLU that they are at inference."""

import pytest
import torch

from shared.sae import SAEConfig, SparseDict, TensorStream, fit, load, save
from tests.sae.test_model import data, make, rng


def test_at_inference_it_is_a_jumprelu_of_the_same_codes(tmp_path):
    sae, x = make("gated"), data(200)
    codes = sae.encode(x)
    assert 0 < (codes > 0).double().mean() < 1
    other = sae.to_inference()
    assert other.cfg.architecture == "jumprelu"
    assert other.cfg.metadata["training_architecture"] == "gated"
    torch.testing.assert_close(other.encode(x), codes)
    save(sae, tmp_path)
    torch.testing.assert_close(load(tmp_path).encode(x), codes)
    torch.testing.assert_close(load(tmp_path)(x).x_hat, sae(x).x_hat)


def test_folding_norms_keeps_the_reconstruction():
    sae, x = make("gated"), data()
    with torch.no_grad():
        sae.W_dec *= torch.rand(len(sae.W_dec), 1, generator=rng(9)).double() + 0.5
    before = sae(x).x_hat
    torch.testing.assert_close(sae.fold_decoder_norm_()(x).x_hat, before)


def test_the_gates_own_term_moves_no_decoder():
    sae, x = make("gated", l1_coefficient=0.0), data()
    with torch.no_grad():
        sae.b_mag.fill_(-1e3)  # no latent has a magnitude: what is left is the gate's term
    sae.training_forward(x).loss.backward()
    assert float(sae.W_dec.grad.abs().max()) == 0
    assert float(sae.W_enc.grad.abs().max()) > 0
    error = 2 * (sae.b_dec - x).mean(0)
    gate = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    through = -2 * ((gate @ sae.W_dec + sae.b_dec - x) @ sae.W_dec.T * (gate > 0)) @ sae.W_enc.T
    torch.testing.assert_close(sae.b_dec.grad, error + through.mean(0))


@pytest.mark.parametrize("skip", [False, True])
def test_transcoders_train_too(skip):
    cfg = SAEConfig("gated", 6, 20, d_out=4, skip=skip)
    sae = SparseDict(cfg, generator=rng())
    out = sae.training_forward(torch.randn(9, 6, generator=rng()), torch.randn(9, 4, generator=rng(1)))
    out.loss.backward()
    assert set(out.parts) == {"reconstruction", "l1", "gate"}


def test_training_finds_a_sparse_code_without_shrinking_it():
    """Planted: 3 of 24 directions a row, of magnitude 1 to 2. The codes' size is what an L1 penalty would shrink."""
    generator = rng(3)
    truth = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=1)
    on = torch.rand(4096, 24, generator=generator).argsort(1) < 3
    x = (on * (1 + torch.rand(4096, 24, generator=generator))) @ truth
    ends = {}
    for kind in ("gated", "standard"):
        sae = SparseDict(SAEConfig(kind, 16, 32, l1_coefficient=0.15), generator=rng(1))
        fit(sae, TensorStream(x, 256, generator=rng(2)), 600, lr=5e-3, progress=False)
        with torch.no_grad():
            out = sae(x)
        scale = float((out.x_hat * x).sum() / out.x_hat.square().sum())  # the best common factor: 1 without shrinkage
        left = float((x - out.x_hat).square().sum() / x.square().sum())
        ends[kind] = (scale, left, float((sae.encode(x) > 0).float().sum(1).mean()))
    assert ends["gated"][0] == pytest.approx(1, abs=0.03)
    assert abs(ends["gated"][0] - 1) < abs(ends["standard"][0] - 1)
    assert ends["gated"][1] < ends["standard"][1]
    assert ends["gated"][2] < 16

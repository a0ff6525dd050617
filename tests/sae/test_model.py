"""Every architecture against a slow float64 re-implementation, closed forms, invariants, bad input."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.sae import SAEConfig, SparseDict, TensorStream, fit, load, save

KINDS = {
    "standard": {},
    "standard free": {"decoder_norm": "free"},
    "gated": {"l1_coefficient": 0.1},
    "jumprelu": {"init_threshold": 0.4, "l0_coefficient": 0.3},
    "topk": {"k": 4},
    "batchtopk": {"k": 3.5},
    "matryoshka": {"k": 4, "widths": (6, 20, 48)},
}
D_IN, D_SAE = 10, 48


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(kind, double=True, **more):
    sae = SparseDict(SAEConfig(kind.split()[0], D_IN, D_SAE, **{**KINDS[kind], **more}), generator=rng(1))
    with torch.no_grad():
        sae.W_enc += 0.1 * torch.randn(D_IN, D_SAE, generator=rng(2))
        sae.b_enc += 0.1 * torch.randn(D_SAE, generator=rng(3))
        sae.b_dec += 0.1 * torch.randn(sae.b_dec.shape, generator=rng(4))
        if kind == "gated":
            sae.r_mag += 0.3 * torch.randn(D_SAE, generator=rng(6))
            sae.b_mag += 0.1 * torch.randn(D_SAE, generator=rng(7))
    sae = sae.double() if double else sae
    if sae.cfg.architecture in ("batchtopk", "matryoshka"):
        sae.threshold.fill_(0.7)
    return sae


def data(rows=64, double=True):
    return torch.randn(rows, D_IN, generator=rng(5), dtype=torch.float64 if double else torch.float32)


def slow_codes(sae, x, training):
    """Codes from the equations, entry by entry where that is clearest."""
    cfg = sae.cfg
    z = (x - sae.b_dec if cfg.apply_b_dec_to_input else x) @ sae.W_enc + sae.b_enc
    if cfg.architecture == "standard":
        return torch.clamp(z, min=0)
    if cfg.architecture == "jumprelu":
        return torch.where(z > sae.threshold, z, 0.0)
    if cfg.architecture == "gated":
        u = z - sae.b_enc
        return (z > 0) * (sae.r_mag.exp() * u + sae.b_mag).relu()
    if cfg.architecture == "topk":
        return torch.stack([torch.where(row >= row.topk(cfg.k).values.min(), row.relu(), 0.0) for row in z])
    if training:
        cut = z.relu().flatten().topk(int(cfg.k * len(x))).values.min()
        return torch.where(z >= cut, z.relu(), 0.0)
    return torch.where(z > sae.threshold, z, 0.0)


def slow_loss(sae, x, y=None, aux=None):
    cfg, goal = sae.cfg, x if y is None else y
    codes = slow_codes(sae, x, training=True)
    skip = x @ sae.W_skip.T if cfg.skip else 0
    widths = cfg.widths or (cfg.d_sae,)
    errors = [((goal - codes[:, :w] @ sae.W_dec[:w] - sae.b_dec - skip) ** 2).sum(1).mean() for w in widths]
    loss = sum(errors) / len(errors)
    if cfg.architecture == "standard":
        norms = sae.W_dec.norm(dim=1) if cfg.decoder_norm == "free" else 1
        loss = loss + cfg.l1_coefficient * (codes * norms).sum(1).mean()
    if cfg.architecture == "gated":
        gate = ((x - sae.b_dec if cfg.apply_b_dec_to_input else x) @ sae.W_enc + sae.b_enc).relu()
        held = sae.b_dec.detach() + (x @ sae.W_skip.detach().T if cfg.skip else 0)
        loss = loss + cfg.l1_coefficient * gate.sum(1).mean()
        loss = loss + ((goal - gate @ sae.W_dec.detach() - held) ** 2).sum(1).mean()
    if cfg.architecture == "jumprelu":
        loss = loss + cfg.l0_coefficient * (codes > 0).sum(1).double().mean()
    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_reconstruction_are_those_of_the_equations(kind):
    sae, x = make(kind), data()
    codes = slow_codes(sae, x, training=False)
    with torch.no_grad():
        out = sae(x)
        assert torch.allclose(sae.encode(x), codes, atol=1e-12)
        assert torch.allclose(sae.encode_sparse(x).dense(), codes, atol=1e-12)
    assert torch.allclose(sae.encode(x), codes, atol=1e-12)  # the path with gradients
    assert torch.allclose(out.x_hat, codes @ sae.W_dec + sae.b_dec, atol=1e-12)
    assert torch.allclose(sae.decode(sae.encode_sparse(x)), out.x_hat, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_without_selection_codes_are_all_positive_pre_activations(kind):
    sae, x = make(kind), data()
    z = (x - sae.b_dec if sae.cfg.apply_b_dec_to_input else x) @ sae.W_enc + sae.b_enc
    torch.testing.assert_close(sae.encode(x, select=False), z.clamp_min(0))
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x, select=False), z.clamp_min(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_alone_has_the_code_it_has_in_a_batch(kind):
    sae, x = make(kind, double=False), data(40, double=False)
    with torch.no_grad():
        together = sae.encode(x)
        alone = torch.cat([sae.encode(row[None]) for row in x])
        assert torch.equal(together > 0, alone > 0)
        assert torch.allclose(together, alone, atol=1e-6)
        assert torch.allclose(sae.encode(x.view(5, 8, D_IN)), together.view(5, 8, D_SAE), atol=1e-6)
        assert torch.allclose(sae.encode(x[0]), together[0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_training_loss_and_gradients_are_those_of_the_dense_equations(kind):
    """For JumpReLU all but the thresholds' gradients, which are estimates (tested below)."""
    sae, x = make(kind), data()
    out = sae.training_forward(x)
    slow = slow_loss(sae, x)
    assert out.loss.item() == pytest.approx(slow.item(), abs=1e-10)
    names = [name for name, _ in sae.named_parameters() if name != "threshold"]
    parameters = [getattr(sae, name) for name in names]
    ours, theirs = torch.autograd.grad(out.loss, parameters), torch.autograd.grad(slow, parameters)
    for name, mine, dense in zip(names, ours, theirs, strict=True):
        assert torch.allclose(mine, dense, atol=1e-10), name
    codes = out.codes if isinstance(out.codes, torch.Tensor) else out.codes.dense()
    assert torch.equal(out.fired, (codes > 0).any(0))


def test_gradient_of_a_linear_dictionary_is_the_closed_form():
    """k = d_sae and positive codes: x̂ is linear, so the squared error's gradients are known."""
    sae = make("topk", k=D_SAE)
    with torch.no_grad():
        sae.b_enc += 50.0  # nothing is cut by the ReLU
    x = data(16)
    sae.training_forward(x).loss.backward()
    centred = x - sae.b_dec
    codes = centred @ sae.W_enc + sae.b_enc
    error = 2 * (codes @ sae.W_dec + sae.b_dec - x) / len(x)
    assert torch.allclose(sae.W_dec.grad, codes.T @ error, rtol=1e-9)
    assert torch.allclose(sae.W_enc.grad, centred.T @ (error @ sae.W_dec.T), rtol=1e-9)
    assert torch.allclose(sae.b_dec.grad, error.sum(0) - (error @ sae.W_dec.T @ sae.W_enc.T).sum(0), rtol=1e-9)


def test_mirrored_orthogonal_dictionary_reconstructs_exactly():
    q = torch.linalg.qr(torch.randn(D_IN, D_IN, generator=rng(), dtype=torch.float64)).Q
    sae = SparseDict(SAEConfig("standard", D_IN, 2 * D_IN)).double()
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([q, -q]))
        sae.W_enc.copy_(sae.W_dec.T)
        assert torch.allclose(sae(data()).x_hat, data(), atol=1e-12)


def test_threshold_gradient_is_the_slope_of_the_kernel_smoothed_loss():
    """Smoothing the step by the rectangle kernel turns the penalty into a ramp, whose slope can be measured."""
    bandwidth, weight = 0.2, 0.7
    sae = make("jumprelu", bandwidth=bandwidth, l0_coefficient=weight)
    x = data(4000)
    with torch.no_grad():
        sae.W_dec.zero_()  # only the penalty depends on the thresholds
    sae.training_forward(x).loss.backward()
    z = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()

    def smoothed(threshold):
        return weight * ((z - threshold) / bandwidth + 0.5).clamp(0, 1).mean(0)

    h = 1e-4
    slope = (smoothed(sae.threshold.detach() + h) - smoothed(sae.threshold.detach() - h)) / (2 * h)
    assert torch.allclose(sae.threshold.grad, slope, rtol=0.05, atol=0.01 * slope.abs().max())


def test_jump_gradient_in_the_threshold_weighs_what_would_be_lost():
    sae = make("jumprelu", bandwidth=0.2, l0_coefficient=0.0)
    x = data()
    sae.training_forward(x).loss.backward()
    z = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()
    codes = torch.where(z > sae.threshold, z, 0.0)
    to_codes = (2 * (codes @ sae.W_dec + sae.b_dec - x) / len(x)) @ sae.W_dec.T
    near = ((z - sae.threshold).abs() < 0.1).double()
    assert torch.allclose(sae.threshold.grad, (-(sae.threshold / 0.2) * near * to_codes).sum(0), atol=1e-12)


def test_matryoshka_of_one_level_is_batch_top_k():
    one, plain = make("matryoshka", widths=(D_SAE,)), make("batchtopk", k=4)
    plain.load_state_dict(one.state_dict())
    for sae in (one, plain):
        sae.training_forward(data(), dead=torch.arange(D_SAE) < 9).loss.backward()
    for a, b in zip(one.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-12)


def test_levels_decode_their_prefix_and_the_last_is_everything():
    sae, x = make("matryoshka"), data()
    with torch.no_grad():
        codes = sae.encode(x)
        assert torch.allclose(sae.decode(codes, level=1), codes[:, :20] @ sae.W_dec[:20] + sae.b_dec, atol=1e-12)
        assert torch.allclose(sae.decode(codes, level=2), sae.decode(codes), atol=1e-12)
        assert torch.allclose(sae.decode(sae.encode_sparse(x), level=0), sae.decode(codes, level=0), atol=1e-12)
    with pytest.raises(ValueError, match="level=3"):
        sae.decode(codes, level=3)


@pytest.mark.parametrize("dead", [3, 5, 30])
def test_auxk_is_the_dead_latents_reconstruction_of_the_residual(dead):
    sae, x = make("topk", aux_coefficient=0.5), data()
    mask = torch.arange(D_SAE) < dead
    out = sae.training_forward(x, dead=mask)
    plain = sae.training_forward(x)
    residual = (x - sae.decode(plain.codes)).detach()
    z = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()[:, :dead]
    k = min(D_IN // 2, dead)
    guess = torch.where(z >= z.topk(k).values[:, -1:], z, 0.0) @ sae.W_dec[:dead]
    expected = (residual - guess).square().sum(1).mean() / (residual - residual.mean(0)).square().sum(1).mean()
    assert (out.loss - plain.loss).item() == pytest.approx(0.5 * expected.item(), rel=1e-9)
    assert float(out.parts["aux"]) == pytest.approx(0.5 * expected.item(), rel=1e-9)
    gradient = torch.autograd.grad(out.loss - plain.loss, sae.W_dec)[0]
    assert gradient[:dead].abs().sum() > 0
    assert not gradient[dead:].any()


@pytest.mark.parametrize(("architecture", "more"), [("standard", {}), ("topk", {"k": 3}), ("jumprelu", {})])
@pytest.mark.parametrize("skip", [False, True])
def test_transcoders_predict_their_target(architecture, more, skip):
    sae = SparseDict(SAEConfig(architecture, D_IN, D_SAE, d_out=7, skip=skip, **more), generator=rng(1)).double()
    x, y = data(), torch.randn(64, 7, generator=rng(8), dtype=torch.float64)
    if skip:
        torch.nn.init.normal_(sae.W_skip, generator=rng(9))
    out = sae.training_forward(x, y)
    assert out.loss.item() == pytest.approx(slow_loss(sae, x, y).item(), abs=1e-10)
    codes = slow_codes(sae, x, training=False)
    expected = codes @ sae.W_dec + sae.b_dec + (x @ sae.W_skip.T if skip else 0)
    with torch.no_grad():
        assert torch.allclose(sae(x).x_hat, expected, atol=1e-12)
    with pytest.raises(ValueError, match="y must be given"):
        sae.training_forward(x)


@pytest.mark.parametrize("mode", ["layer_norm", "constant_norm_rescale"])
def test_run_time_normalisation_makes_codes_blind_to_scale_and_is_undone(mode):
    sae, x = make("standard", normalize_activations=mode), data()
    with torch.no_grad():
        codes, bigger = sae(x), sae(3 * x)
        assert torch.allclose(codes.codes, bigger.codes, atol=1e-4)
        assert torch.allclose(3 * codes.x_hat, bigger.x_hat, atol=1e-4)
        with pytest.raises(ValueError, match="stats"):
            sae.decode(codes.codes)


def test_decoder_norms_and_input_scale_fold_without_changing_the_function():
    for kind in ("standard", "standard free", "jumprelu"):
        sae, x = make(kind), data()
        with torch.no_grad():
            sae.W_dec *= torch.rand(D_SAE, 1, generator=rng(7)) + 0.5
        before = sae(x).x_hat
        sae.fold_decoder_norm_()
        assert torch.allclose(sae(x).x_hat, before, atol=1e-10)
        assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))
    for kind in KINDS:
        sae, x = make(kind), data()
        with torch.no_grad():
            scaled = sae(2.5 * x)
            sae.fold_input_scale_(2.5)
            folded = sae(x)
        assert torch.allclose(folded.codes, scaled.codes, atol=1e-10)
        assert torch.allclose(folded.x_hat, scaled.x_hat / 2.5, atol=1e-10)
    with pytest.raises(ValueError, match="which latents win"):
        make("topk").fold_decoder_norm_()


def test_inference_form_of_a_batch_top_k_is_the_same_function():
    sae, x = make("matryoshka"), data()
    plain = sae.to_inference()
    assert plain.cfg.architecture == "jumprelu"
    assert plain.cfg.metadata["training_architecture"] == "matryoshka"
    with torch.no_grad():
        assert torch.equal(plain(x).codes, sae(x).codes)
        assert torch.equal(plain.decode(plain(x).codes, level=0), sae.decode(sae(x).codes, level=0))


def test_calibrated_threshold_gives_k_latents_a_row():
    sae, x = make("batchtopk", double=False), data(400, double=False)
    sae.calibrate_threshold(x)
    with torch.no_grad():
        assert (sae.encode(x) > 0).sum() == int(3.5 * 400)


def test_gradients_reach_the_input_through_encode_and_decode():
    """Attribution needs them: both paths (codes, reconstruction) against autograd through the dense equations."""
    for kind in KINDS:
        sae, x = make(kind), data(8).requires_grad_()
        (ours,) = torch.autograd.grad(sae(x).x_hat.square().sum(), x)
        slow = slow_codes(sae, x, training=False) @ sae.W_dec + sae.b_dec
        assert torch.allclose(ours, torch.autograd.grad(slow.square().sum(), x)[0], atol=1e-10)


def test_projected_gradient_leaves_the_rows_norms_alone():
    sae = make("topk")
    with torch.no_grad():
        sae.W_dec *= 1.3
    sae.training_forward(data()).loss.backward()
    sae.project_gradients_()
    assert (sae.W_dec.grad * sae.W_dec).sum(1).abs().max() < 1e-12
    sae.renormalise_()
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "topkk"}, "did you mean 'topk'"),
        ({"k": 49}, r"k=49 .*d_sae=48"),
        ({"k": 0}, "k=0"),
        ({"k": None}, "k=None"),
        ({"k": 2.5}, "integer"),
        ({"d_in": 0}, "d_in=0"),
        ({"d_in": 2.0}, "d_in=2.0"),
        ({"architecture": "matryoshka"}, "widths=None"),
        ({"architecture": "matryoshka", "widths": (8, 8, 48)}, "increasing"),
        ({"architecture": "matryoshka", "widths": (8, 40)}, "end at d_sae=48"),
        ({"architecture": "matryoshka", "widths": (8, 48), "level_weights": (1.0,)}, "one per level"),
        ({"normalize_activations": "norm"}, "normalize_activations"),
        ({"skip": True}, "d_out"),
        ({"d_out": 4, "apply_b_dec_to_input": True}, "transcoder"),
        ({"aux_coefficient": -1.0}, "aux_coefficient"),
        ({"bandwidth": 0.0}, "bandwidth"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SAEConfig(**{"architecture": "topk", "d_in": D_IN, "d_sae": D_SAE, "k": 4, **changes})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(3, 9), ValueError, r"\(3, 9\).*10 wide"),
        (torch.zeros(0, D_IN), ValueError, "empty"),
        (torch.zeros(3, D_IN, dtype=torch.long), TypeError, "floating-point"),
        (torch.full((3, D_IN), float("nan")), ValueError, "30 NaN"),
        (torch.tensor(1.0), ValueError, "10 wide"),
    ],
)
def test_activations_that_make_no_sense_are_refused(x, error, message):
    for kind in ("topk", "standard"):
        sae = make(kind, double=False)
        for call in (sae.encode, sae.encode_sparse, sae, sae.training_forward):
            with pytest.raises(error, match=message):
                call(x)


def test_codes_of_another_width_and_a_missing_threshold_are_refused():
    with pytest.raises(ValueError, match="d_sae=48"):
        make("topk").decode(torch.zeros(2, 47))
    sae = SparseDict(SAEConfig("batchtopk", D_IN, D_SAE, k=2))
    with pytest.raises(ValueError, match="no threshold yet"):
        sae.encode(data(double=False))


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka"])
def test_a_threshold_moves_to_a_device_without_float64(kind):
    """As Apple's MPS refuses one; the codes are the same numbers."""
    widths = {"widths": [8, 24]} if kind == "matryoshka" else {}
    sae = SparseDict(SAEConfig(kind, 8, 24, k=3, **widths), generator=torch.Generator().manual_seed(0))
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    sae.calibrate_threshold(x)
    expected = sae.encode(x)

    def to_mps(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor.clone()

    assert sae.threshold.dtype == torch.float64
    assert sae._apply(to_mps) is sae
    assert sae.threshold.dtype == torch.float32
    torch.testing.assert_close(sae.encode(x), expected, rtol=0, atol=0)
    sae.calibrate_threshold(x)
    torch.testing.assert_close(sae.encode(x), expected, rtol=0, atol=0)
    with pytest.raises(TypeError, match="mine"):
        sae._apply(_refuse)


def _refuse(tensor):
    raise TypeError("mine")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gated"])
def test_without_biases_nothing_but_weights_is_trained(kind, tmp_path):
    cfg = SAEConfig(kind.split()[0], D_IN, D_SAE, biases=False, **KINDS[kind])
    sae = SparseDict(cfg, generator=rng(1))
    fit(sae, TensorStream(3 + data(256, double=False), 64), 20, lr=1e-2, progress=False)
    assert not {"b_enc", "b_dec"} & dict(sae.named_parameters()).keys()
    assert not torch.cat([sae.b_enc, sae.b_dec]).any()
    again = load(save(sae, tmp_path))
    assert not again.cfg.biases
    assert torch.equal(again(data()).x_hat, sae(data()).x_hat)
    if kind in ("standard", "topk"):  # the others have thresholds
        assert torch.allclose(sae.encode(2 * data()), 2 * sae.encode(data()), atol=1e-5)


def test_a_file_with_biases_is_no_dictionary_without(tmp_path):
    sae = SparseDict(SAEConfig("topk", D_IN, D_SAE, k=4, biases=False), generator=rng(1))
    file = save(sae, tmp_path) / "sae_weights.safetensors"
    save_file({**load_file(file), "b_dec": torch.ones(D_IN)}, file)
    with pytest.raises(ValueError, match="b_dec isn't zero"):
        load(tmp_path)
    with pytest.raises(ValueError, match="biases=False"):
        SAEConfig("gated", D_IN, D_SAE, biases=False)

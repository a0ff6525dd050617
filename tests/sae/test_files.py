"""Files: bit-exact round trips, SAELens's names, and every way a file can contradict itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.sae import (
    SAEConfig,
    SparseDict,
    load,
    load_dictionary_learning,
    load_gemma_scope,
    load_prisma,
    load_sparsify,
    save,
)

KINDS = {
    "standard": {},
    "jumprelu": {"init_threshold": 0.3},
    "topk": {"k": 3},
    "batchtopk": {"k": 3},
    "matryoshka": {"k": 3, "widths": (4, 24)},
    "standard transcoder": {"d_out": 5},
    "standard skip": {"d_out": 5, "skip": True},
    "jumprelu transcoder": {"d_out": 5},
    "topk transcoder": {"d_out": 5, "k": 3},
    "topk skip": {"d_out": 5, "k": 3, "skip": True},
}
NAMES = {
    "batchtopk": "jumprelu",
    "matryoshka": "jumprelu",
    "standard transcoder": "transcoder",
    "standard skip": "skip_transcoder",
    "jumprelu transcoder": "jumprelu_transcoder",
    "topk transcoder": "topk_transcoder",
    "topk skip": "topk_skip_transcoder",
}


def make(kind="topk", **more):
    config = SAEConfig(kind.split()[0], 8, 24, metadata={"hook_name": "blocks.2"}, **{**KINDS[kind], **more})
    sae = SparseDict(config, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.01 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(2))
    if kind in ("batchtopk", "matryoshka"):
        sae.threshold.fill_(0.4)
    return sae


def data():
    return torch.randn(20, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back_to_the_bit_under_saelens_names(kind, tmp_path):
    sae = make(kind)
    loaded = load(save(sae, tmp_path / "sae"))
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert config["architecture"] == NAMES.get(kind, kind)
    tensors = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    assert tensors["W_enc"].shape == (8, 24)
    for name, value in sae.to_inference().state_dict().items():
        assert torch.equal(tensors[name], value)
        assert torch.equal(loaded.state_dict()[name], value)
    with torch.no_grad():
        assert torch.equal(loaded(data()).codes, sae(data()).codes)
        assert torch.equal(loaded(data()).x_hat, sae(data()).x_hat)
    assert loaded.cfg.metadata["hook_name"] == "blocks.2"
    assert loaded.cfg.widths == sae.cfg.widths
    assert loaded.cfg.decoder_norm == sae.cfg.decoder_norm
    again = load(save(loaded, tmp_path / "again"))
    assert again.cfg == loaded.cfg
    assert sorted(p.name for p in (tmp_path / "sae").iterdir()) == ["cfg.json", "sae_weights.safetensors"]


def edited(tmp_path, config=None, drop=(), **tensors):
    """A saved TopK whose files were tampered with."""
    folder = save(make(), tmp_path / "sae")
    path = folder / "cfg.json"
    content = json.loads(path.read_text()) | (config or {})
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in drop}))
    weights = load_file(folder / "sae_weights.safetensors") | tensors
    save_file({k: v for k, v in weights.items() if k not in drop}, folder / "sae_weights.safetensors")
    return folder


@pytest.mark.parametrize(
    ("config", "drop", "tensors", "message"),
    [
        ({"d_sae": 25}, (), {}, r"W_enc has shape \(8, 24\).*d_sae=25.*\(8, 25\)"),
        ({"d_in": 9}, (), {}, r"sae_weights\.safetensors: W_enc has shape"),
        ({"k": 30}, (), {}, r"cfg\.json: k=30"),
        ({"architecture": "gated"}, (), {}, "gated"),
        ({"architecture": "jumprelu"}, (), {}, "threshold missing"),
        ({"architecture": "skip_transcoder", "d_out": 8}, (), {}, "W_skip missing"),
        ({"normalize_activations": "batch"}, (), {}, "normalize_activations"),
        ({}, ("b_dec",), {}, "b_dec missing"),
        ({}, ("d_in",), {}, r"cfg\.json: d_in missing"),
        ({}, (), {"scaling": torch.ones(3)}, "unexpected scaling"),
        ({}, (), {"scaling_factor": torch.full((24,), 2.0)}, "unexpected scaling_factor"),
        ({"finetuning_scaling_factor": True}, (), {}, "finetuning_scaling_factor=True"),
        ({"gate_bias": 1}, (), {}, r"cfg\.json: gate_bias not understood"),
        ({"architecture": "standard", "activation_fn_str": "tanh-relu"}, (), {}, "activation_fn_str .*tanh-relu"),
        ({"architecture": "standard", "activation_fn_str": "topk"}, ("k",), {}, "needs k in activation_fn_kwargs"),
        ({"activation_fn_kwargs": {"postact_fn": "exp"}}, (), {}, "activation_fn_kwargs has postact_fn"),
        ({"architecture": "standard", "rescale_acts_by_decoder_norm": True}, (), {}, "rescale_acts_by_decoder_norm"),
        ({}, (), {"b_enc": torch.full((24,), float("nan"))}, "b_enc .*24 NaN"),
        ({}, (), {"b_enc": torch.zeros(24, dtype=torch.long)}, "b_enc has type"),
        ({"architecture": "jumprelu"}, (), {"threshold": torch.full((24,), -0.1)}, "negative"),
        ({"architecture": "jumprelu"}, (), {"threshold": torch.zeros(())}, r"threshold has shape \(\)"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path, config, drop, tensors, message):
    with pytest.raises(ValueError, match=message):
        load(edited(tmp_path, config, drop, **tensors))


def test_damaged_and_missing_files_are_refused(tmp_path):
    folder = save(make(), tmp_path / "sae")
    weights = folder / "sae_weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load(folder)
    weights.write_bytes(whole)
    (folder / "cfg.json").write_text("{")
    with pytest.raises(ValueError, match=r"cfg\.json is no JSON"):
        load(folder)
    (folder / "cfg.json").write_text("[1]")
    with pytest.raises(ValueError, match="a JSON object"):
        load(folder)
    (folder / "cfg.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"cfg\.json is missing"):
        load(folder)


def test_a_save_that_fails_leaves_no_loadable_half(tmp_path, monkeypatch):
    folder = save(make(), tmp_path / "sae")
    monkeypatch.setattr("shared.sae.files._saelens.save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(make("standard"), folder)
    with pytest.raises(FileNotFoundError):
        load(folder)


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no threshold yet"):
        save(SparseDict(SAEConfig("batchtopk", 8, 24, k=2)), tmp_path / "a")
    broken = make()
    with torch.no_grad():
        broken.b_enc[0] = float("inf")
    with pytest.raises(ValueError, match="b_enc"):
        save(broken, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_saelens_files_with_rescaled_codes_are_folded(tmp_path):
    """`rescale_acts_by_decoder_norm`: codes are multiplied by the row norms before selecting, divided when decoding."""
    folder = edited(tmp_path, {"rescale_acts_by_decoder_norm": True})
    raw = load_file(folder / "sae_weights.safetensors")
    norms = raw["W_dec"].norm(dim=1)
    z = ((data() - raw["b_dec"]) @ raw["W_enc"] + raw["b_enc"]) * norms
    codes = torch.where(z >= z.topk(3).values[:, -1:], z.relu(), 0.0)
    with torch.no_grad():
        out = load(folder)(data())
    assert torch.allclose(out.codes, codes, atol=1e-6)
    assert torch.allclose(out.x_hat, (codes / norms) @ raw["W_dec"] + raw["b_dec"], atol=1e-6)


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_saelens_files_from_before_6_whose_activation_is_topk(architecture, tmp_path):
    old = {"architecture": architecture, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}
    old |= {"hook_point": "blocks.2", "prepend_bos": True, "finetuning_scaling_factor": False}
    loaded = load(edited(tmp_path, old, drop=("k",), scaling_factor=torch.ones(24)))
    assert loaded.cfg.architecture == "topk"
    with torch.no_grad():
        assert torch.equal(loaded(data()).codes, make()(data()).codes)


def test_saelens_training_checkpoints_keep_their_batch_threshold(tmp_path):
    config = {"architecture": "batchtopk", "k": 3.0, "topk_threshold_lr": 0.01}
    sae = load(edited(tmp_path, config, topk_threshold=torch.tensor(0.4, dtype=torch.float64)))
    assert sae.cfg.architecture == "batchtopk"
    expected = (data() - sae.b_dec) @ sae.W_enc + sae.b_enc
    assert torch.allclose(sae.encode(data()), torch.where(expected > 0.4, expected, 0.0), atol=1e-6)


def test_sparsify_directories(tmp_path):
    sae = make()
    tensors = {"encoder.weight": sae.W_enc.T, "encoder.bias": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"k": 3, "num_latents": 24, "d_in": 8, "activation": "topk"}))
    loaded = load_sparsify(tmp_path)
    assert torch.equal(loaded(data()).codes, sae(data()).codes)
    for content, message in (
        ({"k": 3, "num_latents": 25}, "num_latents=25"),
        ({"k": 3, "activation": "groupmax"}, "activation in .*groupmax"),
        ({"k": 3, "signed": True}, "signed=True"),
        ({"k": 3, "gated": True}, "gated not understood"),
    ):
        (tmp_path / "cfg.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            load_sparsify(tmp_path)


CLASSES = {
    "standard": "AutoEncoder",
    "topk": "AutoEncoderTopK",
    "batchtopk": "BatchTopKSAE",
    "matryoshka": "MatryoshkaBatchTopKSAE",
    "jumprelu": "JumpReluAutoEncoder",
}


def dictionary_learning_state(kind):
    """What dictionary_learning saves of these weights, and our dictionary of them."""
    sae = make(kind, **({"apply_b_dec_to_input": False} if kind == "jumprelu" else {}))
    values = {name: value.detach().clone() for name, value in sae.state_dict().items()}
    if kind in ("matryoshka", "jumprelu"):
        state = values
    else:
        state = {"encoder.weight": values["W_enc"].T, "encoder.bias": values["b_enc"]}
        state |= {"decoder.weight": values["W_dec"].T, "bias" if kind == "standard" else "b_dec": values["b_dec"]}
    if "topk" in kind or kind == "matryoshka":
        state["k"] = torch.tensor(3, dtype=torch.int)
        state["threshold"] = torch.tensor(0.4)  # its TopK keeps one as well, without using it
    if kind == "matryoshka":
        state["group_sizes"] = torch.tensor([4, 20])
    return state, sae


def jumprelu_of_dictionary_learning(state, x):
    """Codes and reconstructions of its `JumpReluAutoEncoder`: no b_dec at the input, codes at unit decoder rows."""
    z = x @ state["W_enc"] + state["b_enc"]
    norms = state["W_dec"].norm(dim=1)
    codes = (z * (z > state["threshold"])).relu() * norms
    return codes, (codes / norms) @ state["W_dec"] + state["b_dec"]


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("kind", CLASSES)
def test_dictionary_learning_files(kind, beside, tmp_path):
    """The architecture is said by config.json, by tensors that only one has, or by the caller."""
    state, sae = dictionary_learning_state(kind)
    torch.save(state, tmp_path / "ae.pt")
    if beside:
        (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": CLASSES[kind]}, "buffer": {}}))
    said = None if beside or kind not in ("topk", "batchtopk") else kind
    loaded = load_dictionary_learning(tmp_path / "ae.pt", architecture=said)
    assert loaded.cfg.architecture == kind
    assert loaded.cfg.widths == sae.cfg.widths
    with torch.no_grad():
        codes, x_hat = jumprelu_of_dictionary_learning(state, data()) if kind == "jumprelu" else reversed(sae(data()))
        assert torch.allclose(loaded(data()).codes, codes, atol=1e-6)
        assert torch.allclose(loaded(data()).x_hat, x_hat, atol=1e-5)


def test_dictionary_learning_files_that_do_not_say_what_they_are_are_refused(tmp_path):
    path, config = tmp_path / "ae.pt", tmp_path / "config.json"
    torch.save(dictionary_learning_state("batchtopk")[0], path)
    with pytest.raises(ValueError, match="fit several architectures; say architecture='topk' or 'batchtopk'"):
        load_dictionary_learning(path)
    config.write_text(json.dumps({"trainer": {"dict_class": "IdentityDict"}}))
    with pytest.raises(ValueError, match=r"dict_class in .*IdentityDict"):
        load_dictionary_learning(path)
    with pytest.raises(ValueError, match="unexpected threshold for architecture='standard'"):
        load_dictionary_learning(path, architecture="standard")
    config.unlink()
    torch.save(dictionary_learning_state("standard")[0] | {"r_mag": torch.zeros(24)}, path)
    with pytest.raises(ValueError, match="unexpected r_mag"):
        load_dictionary_learning(path)
    torch.save({"k": torch.tensor(3)}, path)
    with pytest.raises(ValueError, match="W_enc, b_enc, W_dec, b_dec missing"):
        load_dictionary_learning(path)


def gated_codes(state, x):
    """Gate and magnitude of a gated dictionary by its definition: `1[u + b_gate > 0] relu(e^r u + b_mag)`."""
    u = (x - state["b_dec"]) @ state["W_enc"]
    return (u + state["b_gate"] > 0) * (state["r_mag"].exp() * u + state["b_mag"]).relu()


@pytest.fixture
def gated_state():
    sae, draw = make(), torch.Generator().manual_seed(3)
    values = {name: sae.state_dict()[name].clone().contiguous() for name in ("W_enc", "W_dec", "b_dec")}
    return values | {name: 0.5 * torch.randn(24, generator=draw) for name in ("r_mag", "b_gate", "b_mag")}


def test_gated_files_of_saelens_and_dictionary_learning(gated_state, tmp_path):
    """Read as JumpReLU; thresholds on either side of zero occur."""
    codes = gated_codes(gated_state, data())
    state = {"encoder.weight": gated_state["W_enc"].T, "decoder.weight": gated_state["W_dec"].T}
    state |= {"decoder_bias": gated_state["b_dec"], "r_mag": gated_state["r_mag"]}
    state |= {"gate_bias": gated_state["b_gate"], "mag_bias": gated_state["b_mag"]}
    torch.save(state, tmp_path / "ae.pt")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "gated", "d_in": 8, "d_sae": 24}))
    save_file(gated_state, tmp_path / "sae_weights.safetensors")
    for sae in (load(tmp_path), load_dictionary_learning(tmp_path / "ae.pt")):
        assert sae.cfg.architecture == "jumprelu"
        assert 0 < int((sae.threshold > 0).sum()) < 24
        assert torch.allclose(sae.encode(data()), codes, atol=1e-6)
        assert torch.allclose(sae(data()).x_hat, codes @ gated_state["W_dec"] + gated_state["b_dec"], atol=1e-5)
    assert 0 < float((codes > 0).float().mean()) < 1
    save_file({k: v for k, v in gated_state.items() if k != "r_mag"}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="r_mag missing for architecture='gated'"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["plain", "transcoder", "skip"])
def test_gemma_scope_files(kind, tmp_path):
    draw = np.random.default_rng(0)
    shapes = {"W_enc": (8, 24), "b_enc": 24, "W_dec": (24, 8), "b_dec": 8}
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["threshold"] = draw.random(24).astype(np.float32)
    if kind == "skip":
        arrays["W_skip"] = draw.normal(size=(8, 8)).astype(np.float32)
    np.savez(tmp_path / "params.npz", **arrays)
    sae = load_gemma_scope(tmp_path / "params.npz", transcoder=kind == "transcoder")
    z = data().numpy() @ arrays["W_enc"] + arrays["b_enc"]
    codes = z * (z > arrays["threshold"])
    assert np.allclose(sae.encode(data()).detach(), codes, atol=1e-5)
    assert sae.cfg.is_transcoder == (kind != "plain")
    if kind != "skip":
        assert np.allclose(sae(data()).x_hat.detach(), codes @ arrays["W_dec"] + arrays["b_dec"], atol=1e-4)
    np.savez(tmp_path / "params.npz", **arrays, extra=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="unexpected extra"):
        load_gemma_scope(tmp_path / "params.npz")
    np.savez(tmp_path / "params.npz", **{**arrays, "b_enc": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="holds no plain arrays"):
        load_gemma_scope(tmp_path / "params.npz")


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_prisma_files(activation, tmp_path):
    sae = make("standard" if activation == "relu" else "topk", normalize_activations="layer_norm")
    content = {"d_in": 8, "expansion_factor": 3, "activation_fn_str": activation, "activation_fn_kwargs": {"k": 3}}
    content |= {"normalize_activations": "layer_norm", "model_name": "a ViT"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    torch.save(dict(sae.state_dict()), tmp_path / "weights.pt")
    loaded = load_prisma(tmp_path / "weights.pt")
    assert torch.equal(loaded(data()).x_hat, sae(data()).x_hat)
    assert loaded.cfg.metadata == {"model_name": "a ViT"}
    (tmp_path / "config.json").write_text(json.dumps(content | {"expansion_factor": 4}))
    with pytest.raises(ValueError, match="d_sae=32"):
        load_prisma(tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(content | {"architecture": "gated"}))
    with pytest.raises(ValueError, match="gated"):
        load_prisma(tmp_path / "weights.pt")


def test_pickles_that_hold_more_than_tensors_are_not_run(tmp_path):
    torch.save({"config": SAEConfig("standard", 2, 4)}, tmp_path / "ae.pt")
    with pytest.raises(ValueError, match="no plain state dict"):
        load_dictionary_learning(tmp_path / "ae.pt")


def test_matrices_in_int8_come_back_within_half_a_step(tmp_path):
    """An entry is off by at most half of a 127th of its latent's largest."""
    cfg = SAEConfig("topk", d_in=9, d_sae=14, k=3, d_out=7)
    plain = SparseDict(cfg, generator=torch.Generator().manual_seed(0))
    read = load(save(plain, tmp_path, int8=True))
    for name, dim in (("W_enc", 0), ("W_dec", 1)):
        one, other = getattr(plain, name).detach(), getattr(read, name).detach()
        step = one.abs().amax(dim, keepdim=True) / 127
        assert bool(((one - other).abs() <= 0.5001 * step).all())
        assert other.dtype == torch.float32
    assert torch.equal(plain.b_enc, read.b_enc)
    again = load(save(read, tmp_path / "again", int8=True))
    torch.testing.assert_close(again.W_enc, read.W_enc)

"""Agreement with sae-lens 6.54 and dictionary_learning 0.1 on outputs of theirs (made by tests/golden/make_sae.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.sae import SAEConfig, SparseDict, fit, load, save

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
D_IN, D_SAE, K, WIDTHS = 12, 40, 5, (6, 16, 40)


@pytest.fixture(scope="module")
def saelens():
    with np.load(GOLDEN / "sae_lens.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def dictionary_learning():
    with np.load(GOLDEN / "sae_dictionary_learning.npz", allow_pickle=False) as file:
        return {key: torch.as_tensor(value) for key, value in file.items()}


@pytest.mark.parametrize(
    "name",
    ["standard", "layer_norm", "constant_norm", "jumprelu", "topk", "topk_rescaled", "transcoder", "skip_transcoder",
     "jumprelu_transcoder", "jumprelu_skip"],
)  # fmt: skip
def test_directories_saelens_wrote_load_and_give_its_codes(name, saelens, tmp_path):
    for file in ("cfg.json", "sae_weights.safetensors"):
        (tmp_path / file).write_bytes(saelens[f"{name}.{file}"].tobytes())
    sae = load(tmp_path)
    with torch.no_grad():
        out = sae(torch.as_tensor(saelens["x"]))
    codes = torch.as_tensor(saelens[f"{name}.codes"])
    assert torch.equal(out.codes > 0, codes > 0)
    assert torch.allclose(out.codes, codes, atol=2e-6)
    assert torch.allclose(out.x_hat, torch.as_tensor(saelens[f"{name}.x_hat"]), atol=5e-6)
    again = load(save(sae, tmp_path / "again"))
    assert again.cfg == sae.cfg.with_(metadata=again.cfg.metadata)
    assert sae.cfg.metadata["hook_name"] == "blocks.1"


@pytest.mark.parametrize("name", ["standard", "jumprelu", "topk", "batchtopk", "matryoshka_batchtopk"])
def test_training_losses_and_gradients_are_those_of_saelens(name, saelens):
    """SAELens weighs every nested level by 1."""
    more = {
        "standard": {"l1_coefficient": 0.5, "decoder_norm": "free"},
        "jumprelu": {"bandwidth": 0.3, "l0_coefficient": 0.7},
        "matryoshka_batchtopk": {"widths": WIDTHS, "level_weights": (1, 1, 1)},
    }.get(name, {})
    sae = SparseDict(SAEConfig(name.removesuffix("_batchtopk"), D_IN, D_SAE, k=K, **more))
    value = {key.removeprefix(f"train.{name}."): torch.as_tensor(v) for key, v in saelens.items() if name in key}
    with torch.no_grad():
        for parameter, tensor in sae.named_parameters():
            tensor.copy_(value[parameter])
    out = sae.training_forward(torch.as_tensor(saelens["train.x"]))
    out.loss.backward()
    assert out.loss.item() == pytest.approx(float(value["loss"]), rel=1e-5)
    for parameter, tensor in sae.named_parameters():
        theirs = value[f"grad.{parameter}"]
        assert torch.allclose(tensor.grad, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max())), parameter


def ours_from(name, arrays, when):
    """Our dictionary with the weights of its trainer at that moment; levels weigh 1/G² there."""
    more = {"widths": WIDTHS, "level_weights": (1 / 9,) * 3} if name == "matryoshka" else {}
    sae = SparseDict(SAEConfig(name, D_IN, D_SAE, k=K, **more))
    prefix = f"{name}.{when}."
    found = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
    if "encoder.weight" in found:
        found |= {
            "W_enc": found["encoder.weight"].T,
            "b_enc": found["encoder.bias"],
            "W_dec": found["decoder.weight"].T,
        }
    with torch.no_grad():
        for key, parameter in sae.named_parameters():
            parameter.copy_(found[key])
    return sae, found


@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka"])
def test_the_loop_takes_the_steps_of_dictionary_learning(name, dictionary_learning):
    """Same weights, batches and settings: bias at the median, projected and clipped gradients, Adam, unit rows.

    Its schedule without warm-up and decay is constant; its threshold starts after the second step.
    """
    arrays = dictionary_learning
    sae, _ = ours_from(name, arrays, "before")
    settings = {"lr": 1e-2, "warmup": 0.0, "decay": 0.0, "dead_after": 10**7, "log_every": 1, "progress": False}
    history = fit(sae, iter(arrays["batches"]), 6, threshold_start=2, threshold_beta=0.9, **settings)
    after, found = ours_from(name, arrays, "after")
    assert torch.allclose(torch.tensor(history.loss), arrays[f"{name}.losses"].float(), rtol=1e-4)
    for (key, ours), theirs in zip(sae.named_parameters(), after.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5), (key, float((ours - theirs).abs().max()))
    if name != "topk":  # its TopK keeps a threshold as well; ours needs none
        assert float(sae.threshold) == pytest.approx(float(found["threshold"]), rel=1e-4)


@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka"])
def test_auxk_is_that_of_dictionary_learning(name, dictionary_learning):
    arrays = dictionary_learning
    sae, _ = ours_from(name, arrays, "weak")
    loss = sae.training_forward(arrays["aux.x"], dead=arrays[f"{name}.aux.dead"]).loss
    plain = sae.training_forward(arrays["aux.x"]).loss
    assert arrays[f"{name}.aux.dead"].any()
    assert loss.item() == pytest.approx(float(arrays[f"{name}.aux.loss"]), rel=1e-5)
    assert abs(float((loss - plain).detach())) > 1e-3


@pytest.mark.parametrize(("architecture", "more"), [("standard", {}), ("topk", {"k": K}), ("batchtopk", {"k": K})])
def test_saelens_itself_reads_what_we_save(architecture, more, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    sae = SparseDict(SAEConfig(architecture, D_IN, D_SAE, **more))
    x = torch.randn(20, D_IN, generator=torch.Generator().manual_seed(0))
    if architecture == "batchtopk":
        sae.calibrate_threshold(x)
    theirs = sae_lens.SAE.load_from_disk(save(sae, tmp_path))
    with torch.no_grad():
        assert torch.allclose(theirs.encode(x), sae(x).codes, atol=1e-6)
        assert torch.allclose(theirs(x), sae(x).x_hat, atol=1e-6)

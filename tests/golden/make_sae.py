"""Make the golden arrays for the tests of shared.sae with sae-lens and dictionary_learning. Not run by CI.

Run from the repository root in a throw-away environment with torch, `sae-lens==6.54.12` and
`dictionary-learning==0.1.0` (the latter with `--no-deps`; nnsight, which it only needs to run models, is stood in for):

    PYTHONPATH=. python tests/golden/make_sae.py

`sae_lens.npz`: directories as SAELens writes them (bytes of both files), inputs, its codes and reconstructions; losses
and gradients of its training classes on one batch. `sae_dictionary_learning.npz`: weights before and after a few steps
of its trainers, thresholds, and losses with AuxK. It also loads directories that shared.sae wrote into SAELens and
fails if codes or reconstructions differ by over 1e-6.
"""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent
D_IN, D_OUT, D_SAE, ROWS, K = 12, 7, 40, 64, 5
WIDTHS = [6, 16, 40]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int) -> torch.Tensor:
    return torch.randn(ROWS, D_IN, generator=rng(seed)) + 0.3


def randomise(module: torch.nn.Module, unit_rows: bool) -> None:
    """Weights away from any symmetric start; decoder rows of norm 1 where asked."""
    with torch.no_grad():
        for i, (name, value) in enumerate(module.named_parameters()):
            value.copy_(0.3 * torch.randn(value.shape, generator=rng(i)))
            if "threshold" in name:
                value.copy_(0.2 + 0.2 * torch.rand(value.shape, generator=rng(i)))
            if name == "W_dec" and unit_rows:
                value /= value.norm(dim=1, keepdim=True)


def saelens_directories(arrays: dict[str, Any]) -> None:
    from sae_lens import SAE

    configs = {
        "standard": {"architecture": "standard"},
        "layer_norm": {"architecture": "standard", "normalize_activations": "layer_norm"},
        "constant_norm": {"architecture": "jumprelu", "normalize_activations": "constant_norm_rescale"},
        "jumprelu": {"architecture": "jumprelu", "apply_b_dec_to_input": False},
        "topk": {"architecture": "topk", "k": K},
        "topk_rescaled": {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True},
        "transcoder": {"architecture": "transcoder", "d_out": D_OUT, "apply_b_dec_to_input": False},
        "skip_transcoder": {"architecture": "skip_transcoder", "d_out": D_OUT, "apply_b_dec_to_input": False},
        "jumprelu_transcoder": {"architecture": "jumprelu_transcoder", "d_out": D_OUT, "apply_b_dec_to_input": False},
        "jumprelu_skip": {"architecture": "jumprelu_skip_transcoder", "d_out": D_OUT, "apply_b_dec_to_input": False},
    }
    x = batch(100)
    for name, config in configs.items():
        sae = SAE.from_dict({"d_in": D_IN, "d_sae": D_SAE, "metadata": {"hook_name": "blocks.1"}, **config})
        randomise(sae, unit_rows=False)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            sae.save_model(folder)
            for file in ("cfg.json", "sae_weights.safetensors"):
                arrays[f"{name}.{file}"] = np.frombuffer((Path(folder) / file).read_bytes(), np.uint8)
            arrays |= {f"{name}.codes": sae.encode(x), f"{name}.x_hat": sae(x)}
    arrays["x"] = x


def saelens_training(arrays: dict[str, Any]) -> None:
    """Losses and gradients on one batch, without AuxK (its decodes with b_dec and has no normalisation)."""
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import TrainStepInput

    x = batch(200)
    plain = {"rescale_acts_by_decoder_norm": False, "k": K}
    configs = {
        "standard": ({"l1_coefficient": 0.5}, {"l1": 0.5}),
        "jumprelu": ({"jumprelu_bandwidth": 0.3, "l0_coefficient": 0.7}, {"l0": 0.7}),
        "topk": (plain, {}),
        "batchtopk": (plain, {}),
        "matryoshka_batchtopk": ({**plain, "matryoshka_widths": WIDTHS}, {}),
    }
    for name, (config, coefficients) in configs.items():
        kind, config_class = get_sae_training_class(name)
        sae = kind(config_class(d_in=D_IN, d_sae=D_SAE, **config))
        randomise(sae, unit_rows=True)
        out = sae.training_forward_pass(TrainStepInput(x, coefficients, None, 0, is_logging_step=False))
        out.loss.backward()
        arrays[f"train.{name}.loss"] = out.loss
        for key, value in sae.named_parameters():
            arrays |= {f"train.{name}.{key}": value, f"train.{name}.grad.{key}": value.grad}
    arrays["train.x"] = x


def saelens_reads_ours() -> None:
    from sae_lens import SAE

    from shared.sae import SAEConfig, SparseDict, save

    x, worst = batch(300), 0.0
    kinds = [
        ("standard", {}), ("standard", {"normalize_activations": "layer_norm"}), ("jumprelu", {}), ("topk", {"k": K}),
        ("batchtopk", {"k": K}), ("matryoshka", {"k": K, "widths": WIDTHS}), ("standard", {"d_out": D_OUT}),
        ("standard", {"d_out": D_OUT, "skip": True}), ("jumprelu", {"d_out": D_OUT}),
        ("jumprelu", {"d_out": D_OUT, "skip": True}),
    ]  # fmt: skip
    for architecture, more in kinds:
        ours = SparseDict(SAEConfig(architecture, D_IN, D_SAE, **more), generator=rng(1))
        randomise(ours, unit_rows=False)
        if architecture in ("batchtopk", "matryoshka"):
            ours.threshold.fill_(0.4)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            theirs = SAE.load_from_disk(save(ours, folder))
            mine = ours(x)
            codes, x_hat = theirs.encode(x), theirs(x)
        difference = max(float((mine.codes - codes).abs().max()), float((mine.x_hat - x_hat).abs().max()))
        print(f"SAELens reads {architecture:12s} {more or ''}: largest difference {difference:.1e}")
        worst = max(worst, difference)
    if worst > 1e-6:
        raise SystemExit(f"SAELens and shared.sae differ by {worst:.1e}")


def import_dictionary_learning() -> None:
    """Its package imports nnsight to run language models, which the trainers don't do: an empty stand-in will do."""
    stub = types.ModuleType("nnsight")
    stub.LanguageModel = type("LanguageModel", (), {})
    sys.modules.setdefault("nnsight", stub)


def dictionary_learning_steps(arrays: dict[str, Any]) -> None:
    import_dictionary_learning()
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    common = {"activation_dim": D_IN, "dict_size": D_SAE, "k": K, "layer": 0, "lm_name": "", "lr": 1e-2, "seed": 0}
    common |= {"steps": 10, "warmup_steps": 0, "threshold_start_step": 1, "threshold_beta": 0.9, "device": "cpu"}
    fractions = [6 / 40, 10 / 40, 24 / 40]
    trainers = {
        "topk": lambda: TopKTrainer(**common),
        "batchtopk": lambda: BatchTopKTrainer(**common),
        "matryoshka": lambda: MatryoshkaBatchTopKTrainer(**common, group_fractions=fractions),
    }
    batches = torch.stack([batch(400 + i) for i in range(6)])
    for name, make in trainers.items():
        trainer = make()
        arrays |= {f"{name}.before.{k}": v.clone() for k, v in trainer.ae.state_dict().items()}
        losses = [trainer.update(step, x) for step, x in enumerate(batches)]
        arrays |= {f"{name}.after.{k}": v.clone() for k, v in trainer.ae.state_dict().items()}
        arrays[f"{name}.losses"] = np.array(losses)
        # one loss with AuxK, half of the latents too weak to win
        encoder = dict(trainer.ae.named_parameters())
        with torch.no_grad():
            if name == "matryoshka":
                encoder["W_enc"][:, : D_SAE // 2] *= 0.05
            else:
                encoder["encoder.weight"][: D_SAE // 2] *= 0.05
        arrays |= {f"{name}.weak.{k}": v.clone() for k, v in trainer.ae.state_dict().items()}
        trainer.dead_feature_threshold, trainer.num_tokens_since_fired[:] = 1000, 0
        trainer.num_tokens_since_fired[: D_SAE // 2] = 2000
        x = batch(500)
        arrays[f"{name}.aux.loss"] = np.array(trainer.loss(x, step=0).item())
        arrays[f"{name}.aux.dead"] = trainer.num_tokens_since_fired >= 1000
    arrays |= {"batches": batches, "aux.x": batch(500)}


def main() -> None:
    saelens_reads_ours()
    for file, makers in (
        ("sae_lens", (saelens_directories, saelens_training)),
        ("sae_dictionary_learning", (dictionary_learning_steps,)),
    ):
        arrays: dict[str, Any] = {}
        for make in makers:
            make(arrays)
        plain = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in arrays.items()}
        np.savez_compressed(FOLDER / file, **plain)
        print(f"{file}.npz: {(FOLDER / f'{file}.npz').stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()

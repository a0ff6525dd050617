"""Make the golden arrays for ALTI-Logit with the authors' code, `mt-upc/logit-explanations`. Not run by CI.

Run from the repository root in an environment with torch, transformers and pyyaml; the argument is a checkout of that
repository (commit fadf415 was used). Its configuration reader `pyaml_env` is stood in for, and the two steps that its
command line script does (rows to sum 1, tracking to the input) are written out here.

    PYTHONPATH=. python tests/golden/make_alti.py /path/to/logit-explanations
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

FILE = Path(__file__).resolve().parent / "alti_gpt2.npz"
TARGETS = [3, 11]


def tiny_gpt2() -> GPT2LMHeadModel:
    """Three layers, every parameter random, so that no bias is zero."""
    torch.manual_seed(0)
    sizes = dict(vocab_size=20, n_embd=16, n_layer=3, n_head=4, n_positions=16)
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, attn_implementation="eager"))
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if name.endswith(("ln_1.weight", "ln_2.weight")) else 0.0, std=0.3)
    return model.eval()


def explain(wrapper_class: type, model: GPT2LMHeadModel, ids: torch.Tensor) -> dict[str, np.ndarray]:
    """One sentence (1, S): contributions by target (2, S), ALTI's matrices (L, S, S), and the other parts."""
    wrapper = wrapper_class(model)
    logits, states, attentions = wrapper({"input_ids": ids})
    vectors, modules, layers = wrapper.get_logit_contributions(states, attentions, TARGETS)
    norms = layers["attn_res_outputs"].abs().sum(-1, keepdim=True)
    near = (layers["layerwise_contributions"] + norms).clamp(min=0)
    mixing = near / near.sum(-1, keepdim=True)
    found = {"mixing": mixing, "logits": logits[0, -1]}
    for name in ("aff", "lin"):
        updates = vectors[f"{name}_x_j"][:, -1]  # (L, targets, S)
        flow, tokens = torch.eye(ids.shape[1]), updates[0]
        for n in range(1, len(updates)):
            flow = mixing[n - 1] @ flow
            tokens = tokens + updates[n] @ flow
        found[name] = tokens
    found["initial"] = modules["init_logit"]
    found["mlps"] = torch.stack(modules["mlp_logit_layers"])
    found["biases"] = modules["lnf_bias"] + torch.stack(modules["b_o_logits_layers"]).sum(0)
    return {key: value.detach().numpy() for key, value in found.items()}


def main(checkout: str) -> None:
    reader = types.ModuleType("pyaml_env")
    reader.parse_config = lambda path: yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    sys.modules["pyaml_env"] = reader
    sys.path.insert(0, checkout)
    before = os.getcwd()
    os.chdir(checkout)
    try:
        from src.contributions import ModelWrapper
    finally:
        os.chdir(before)
    model = tiny_gpt2()
    ids = torch.randint(3, 20, (2, 7), generator=torch.Generator().manual_seed(1))
    rows = [explain(ModelWrapper, model, row[None]) for row in ids]
    arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    state = {f"state.{name}": value.detach().numpy() for name, value in model.state_dict().items()}
    np.savez_compressed(FILE, ids=ids.numpy(), **arrays, **state)
    print(FILE.name, FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1])

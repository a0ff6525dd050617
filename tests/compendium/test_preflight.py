"""The preflight's arithmetic, against real tensors and against what is known of a model's size."""

import pytest
import torch
import transformers
from torch import nn

from shared.compendium.preflight import evaluate, fetched, saved_bytes, step_cost

SMALL = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 50}
STEP = {
    "step": "AttnLRP",
    "model": "language_model",
    "input": "tokens",
    "config": SMALL,
    "length": 12,
    "batch": "rows / 2",
}
VALUES = {"language_model": "owner/none", "rows": 6, "dtype": "float32", "names": ["a", "b"]}


def test_expressions_are_arithmetic_over_parameters():
    assert evaluate("rows * 14 / (2 + 1) - -1", VALUES) == 29
    assert evaluate("len(names) ** 3 // 3", VALUES) == 2
    assert evaluate(5, VALUES) == 5


@pytest.mark.parametrize(
    "text", ["rows.real", "__import__('os')", "len(rows, 2)", "unknown", "rows if rows else 1", "'a'"]
)
def test_nothing_else_is_evaluated(text):
    with pytest.raises(ValueError, match="is no arithmetic over parameters"):
        evaluate(text, VALUES)


def test_hub_ids_are_found_wherever_they_stand():
    values = {
        "a": "owner/name-1.0",
        "b": ["x", ["other/set"]],
        "c": {"d": "owner/name-1.0"},
        "e": "a photo of a cat",
        "f": 3,
    }
    assert fetched(values) == ["owner/name-1.0", "other/set"]


@pytest.mark.parametrize("frozen", [True, False])
def test_saved_bytes_are_those_of_real_tensors(frozen):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).requires_grad_(not frozen)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)

    x = torch.rand(5, 4, requires_grad=True)
    # a frozen linear layer keeps its weight alone; the ReLU keeps its output; a trained layer keeps its input
    expected = 4 * (5 * 8 if frozen else 5 * 4 + 5 * 8)
    assert saved_bytes(Named(), {"x": x}) == expected


def test_the_meta_device_counts_what_the_processor_would_keep():
    cost = step_cost(STEP, VALUES)
    config = transformers.AutoConfig.for_model(**SMALL)
    model = (
        transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    )
    embedded = torch.rand(3, 12, 32, requires_grad=True)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.saved_gb * 1e9 == pytest.approx(saved_bytes(model, {"inputs_embeds": embedded}), rel=0.02)


def test_more_rows_longer_texts_and_training_cost_more():
    def cost(**changes):
        return step_cost({**STEP, **changes}, VALUES)

    assert cost(batch=6).saved_gb == pytest.approx(2 * cost().saved_gb, rel=0.05)
    assert cost(length=24).saved_gb > 2 * cost().saved_gb  # attention grows with the square
    assert cost(mode="forward").saved_gb == 0
    assert cost(mode="training").weights_gb == pytest.approx(4 * cost().weights_gb)
    assert cost(dtype="bfloat16").weights_gb == pytest.approx(cost().weights_gb / 2)
    assert cost(passes="rows * 3").passes == 18


def test_known_models_have_their_known_size():
    llama = step_cost({**STEP, "config": {"model_type": "llama"}, "dtype": "bfloat16", "mode": "forward"}, VALUES)
    assert llama.weights_gb == pytest.approx(13.5, abs=0.1)  # Llama-2-7B
    vit = step_cost({"step": "s", "model": "owner/none", "input": "pixels", "config": {"model_type": "vit"}}, VALUES)
    assert vit.parameters / 1e6 == pytest.approx(86, abs=1)
    with pytest.raises(ValueError, match="the configuration of owner/none can't be read here; give its `config`"):
        step_cost({**STEP, "config": {}}, VALUES)

"""Conditions of `shared.hooks`' functions."""

from shared import hooks
from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X = rand(2, 3, 4, 4)


def seen(model, layer, x):
    with hooks.capture(model, layer) as kept:
        output = model(x)
    return output, dict(kept)


def within(context):
    """Runs the model inside a context made of the model and the layer."""

    def call(model, layer, x):
        with context(model, layer):
            return model(x)

    return call


def row(call):
    return lambda: {"model": whole(), "layer": "first", "x": X, "call": call}


MODELS = {
    "ablate": row(within(lambda m, name: hooks.ablate(m, {name: [1]}))),
    "capture": row(seen),
    "edit": row(within(lambda m, name: hooks.edit(m, {name: lambda a: a * 2}))),
    "move_to": row(within(lambda m, name: hooks.move_to(m, {name: rand(4)}, 0.5))),
    "patch": row(within(lambda m, name: hooks.patch(m, {name: rand(4, 4, 4)}))),
    "project_out": row(within(lambda m, name: hooks.project_out(m, {name: rand(4)}))),
    "steer": row(within(lambda m, name: hooks.steer(m, {name: rand(4)}))),
    "run_model": lambda: {"model": whole(), "x": X, "call": lambda model, x: hooks.run_model(model, x)},
}
TRAINS = "one may edit a model while it trains"
KNOWN = {
    **{(name, "train"): TRAINS for name in MODELS},
}
SCALES = {
    "moved_to": {"direction": 0},
    "pool": {"activation": 1},
    "projected_out": {"directions": 0},
    "span_basis": {"directions": 0},
}
VALUES = {
    "span_basis": {
        "duplicates": (lambda: {"directions": rand(1, 4).repeat(2, 1)}, rand(1, 4) / rand(1, 4).norm()),
        "zero": (lambda: {"directions": rand(2, 4) * 0}, "directions"),
    },
    "pool": {
        "nothing left": (
            lambda: {"activation": rand(2, 5, 4), "how": "mean", "channel_axis": -1, "mask": rand(2, 5) < 0},
            "mask",
        ),
    },
}
LANGUAGE = "a transformers model's; tests/hooks/test_heads.py"
WITHOUT = {
    **dict.fromkeys(("attention_modules", "capture_attention", "capture_heads"), LANGUAGE),
    **dict.fromkeys(("edit_heads", "padded_positions", "transformer_parts", "wrap_attention"), LANGUAGE),
    **dict.fromkeys(("find_module", "model_device", "module_axis"), "look at modules only"),
    **dict.fromkeys(("refuse_compiled", "refuse_training"), "are themselves the check"),
}

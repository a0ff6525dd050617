"""Arguments of `shared.hooks`' functions."""

from torch import nn

from tests.bad_input.good import Calls, rand

H, MAPS = rand(6, 4), rand(2, 4, 3, 3)


def stack() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)))


GOOD: Calls = {
    "ablated": lambda: {"activation": H, "units": [0], "values": rand(4), "channel_axis": 1},
    "moved_to": lambda: {"activation": MAPS, "direction": rand(4), "level": rand(2), "channel_axis": 1},
    "pool": lambda: {"activation": rand(2, 5, 4), "how": "mean", "channel_axis": -1, "mask": rand(2, 5) > -1},
    "projected_out": lambda: {
        **{"activation": MAPS, "directions": rand(2, 4)},
        **{"reference": rand(4), "channel_axis": 1},
    },
    "resume_from": lambda: {"model": stack(), "layer": "0.1", "hidden": rand(2, 3, 2, 2)},
    "span_basis": lambda: {"directions": rand(2, 4)},
    "steered": lambda: {
        **{"activation": MAPS, "direction": rand(4), "channel_axis": 1},
        **{"positions": rand(2, 3, 3) > 0.5},
    },
}
ELSEWHERE = {
    **dict.fromkeys(("find_channel_axis", "resolve_axis"), "look at the shape only; tests/hooks/test_channels.py"),
    **dict.fromkeys(("ablate", "move_to", "project_out", "steer"), "tensors by name; tests/hooks/test_steering.py"),
    "ablate_heads": "tensors by name; tests/hooks/test_heads.py",
    "take_rows": "data that batches has checked",
    "patch": "tensors by name, of any shape and number",
}
ANY_RANK = {(name, "activation") for name in ("ablated", "moved_to", "pool", "projected_out", "steered")}
FEWER = {  # one direction, one number for all samples, samples in place of positions
    *(("projected_out", "directions"), ("span_basis", "directions"), ("moved_to", "level"), ("steered", "positions")),
}

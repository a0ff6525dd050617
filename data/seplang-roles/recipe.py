"""Small language models of SepLang: a base that executes every command, fine-tuned with several role embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.compendium.paths import cache_dir
from shared.lm import RoleEmbedding
from shared.nets import StackedNet, small_decoder
from shared.worlds import SEP_VOCABULARY, SepItem, sep_items
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

NAME = "seplang-roles"
SIZES = {"layers": 3, "heads": 4, "width": 48, "hidden": 96, "length": 32}
SEEDS, PILOTS = range(8), range(8, 11)  # networks for claims, and for gates (base and plain alone)
PRETRAINING, TUNING, BATCH, RATE = 1000, 200, 32, 3e-3  # seeds 100 to 102; pretraining was 700 and 600 before
FAR = {"ISE": 1.0, "ISE x3": 3.0, "ISE x4": 4.0, "ISE x6": 6.0}  # deviation of segment rows at first / of embeddings
ARMS = ("plain", "ASIDE", *FAR, "other rotation", "roles at random")
LENGTH, OTHERS = 18, 0.05  # of a text in tokens; weight of tokens that are no answer
_IDS = {word: i for i, word in enumerate(SEP_VOCABULARY)}
_DATA = 100  # is added to the ids of data


class Turned(nn.Module):
    """Data times a random orthogonal matrix, in place of the quarter turn of pairs."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, embeds: Tensor, roles: Tensor) -> Tensor:
        return torch.where(roles.bool()[..., None], embeds @ self.matrix, embeds)


class Network(nn.Module):
    """A decoder that reads ids of data, which are `_DATA` larger, by their role."""

    def __init__(self, lm: nn.Module, role: nn.Module) -> None:
        super().__init__()
        self.lm, self.role = lm.requires_grad_(True), role

    def forward(self, coded: Tensor) -> Tensor:
        embeds = self.role(self.lm.model.embed_tokens(coded % _DATA), coded // _DATA)
        return self.lm(inputs_embeds=embeds, use_cache=False).logits


def role_of(arm: str, seed: int, base: dict[str, Tensor]) -> nn.Module:
    """A new role embedding for an arm."""
    width, generator = SIZES["width"], torch.Generator().manual_seed(1000 + seed)
    if arm == "other rotation":
        return Turned(torch.linalg.qr(torch.randn(width, width, generator=generator))[0])
    mode = "segment" if arm in FAR else "none" if arm in ("base", "plain") else "rotation"
    role = RoleEmbedding(width, mode=mode)
    if arm in FAR:
        size = FAR[arm] * float(base["model.embed_tokens.weight"].std())
        nn.init.normal_(role.table, std=size, generator=generator)
    return role


def coded(items: Sequence[SepItem], *, obedient: bool) -> tuple[Tensor, Tensor]:
    """Prompts with their answers, and the weight of each token as a target; padded behind."""
    ids, weights = np.zeros((2, len(items), LENGTH))
    for i, item in enumerate(items):
        (told, _), (given, _) = item.parts
        answer = (item.obedient if obedient else item.answer).split()
        first, rest = ["<s>", *told.split()], [*given.split(), *answer]
        row = [_IDS[word] for word in first] + [_IDS[word] + _DATA for word in rest]
        ids[i, : len(row)], weights[i, : len(row)] = row, OTHERS
        weights[i, len(row) - len(answer) : len(row)] = 1
    return torch.from_numpy(ids).long(), torch.from_numpy(weights).float()


def texts(arm: str, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch. To the base probes come anywhere and are executed; later they are in instructions or nowhere."""
    if arm == "base":
        sizes = {"none": BATCH // 4, "instruction": BATCH // 4, "data": BATCH // 2}
    else:
        sizes = {"none": BATCH // 2, "instruction": BATCH // 2}
    items = [item for place, n in sizes.items() for item in sep_items(n, generator=rng, place=place)]
    ids, weights = coded(items, obedient=arm == "base")
    if arm == "base":
        ids = ids % _DATA
    elif arm == "roles at random":
        ids = ids % _DATA + _DATA * torch.from_numpy(rng.integers(0, 2, ids.shape))
    return ids, weights


def trained(arm: str, seeds: Sequence[int], bases: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """All seeds of an arm in one stack; their states."""
    nets = []
    for seed, base in zip(seeds, bases):
        lm = small_decoder(len(SEP_VOCABULARY), **SIZES, generator=torch.Generator().manual_seed(seed))
        lm.config._attn_implementation = "eager"
        if base:
            lm.load_state_dict(base)
        nets.append(Network(lm, role_of(arm, seed, base)))
    stack, steps = StackedNet(nets).train(), PRETRAINING if arm == "base" else TUNING
    optimizer = torch.optim.AdamW(stack.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rngs = [np.random.default_rng([seed, arm == "base"]) for seed in seeds]
    for step in range(steps):
        done = step / steps
        rise, fall = min(done / 0.1, 1.0), 0.5 * (1 + math.cos(math.pi * max(0.0, (done - 0.1) / 0.9)))
        optimizer.param_groups[0]["lr"] = RATE * rise * fall
        ids, weights = map(torch.stack, zip(*[texts(arm, rng) for rng in rngs]))
        found = stack(ids)[:, :, :-1]
        each = cross_entropy(found.flatten(0, 2), (ids % _DATA)[:, :, 1:].flatten(), reduction="none")
        w = weights[:, :, 1:].flatten(1)
        optimizer.zero_grad(set_to_none=True)
        ((each.view(len(nets), -1) * w).sum(1) / w.sum(1)).sum().backward()
        _clip(stack)
        optimizer.step()
    return [stack.unstacked(i).state_dict() for i in range(len(nets))]


def _clip(stack: StackedNet) -> None:
    """Each network's gradient to a norm of at most one."""
    norms = torch.stack([p.grad.flatten(1).square().sum(1) for p in stack.parameters()]).sum(0).sqrt()
    for p in stack.parameters():
        p.grad /= norms.clamp(min=1).view(-1, *[1] * (p.ndim - 1))


def packed(arm: str, states: list[dict[str, Tensor]], bases: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """The base in half precision; of others what they moved away from it, in 8 bits with a scale per tensor."""
    found = {}
    for key in states[0]:
        values, name = torch.stack([state[key] for state in states]), key.removeprefix("lm.")
        if arm == "base" or not key.startswith("lm."):
            found[f"{arm} {name}"] = values.half().numpy()
            continue
        delta = values - torch.stack([base[name].half().float() for base in bases])
        scale = delta.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        found[f"{arm} {name}"] = (delta / scale.view(-1, *[1] * (delta.ndim - 1))).round().to(torch.int8).numpy()
        found[f"{arm} {name} scale"] = scale.numpy()
    return found


def _stage(arm: str, seeds: Sequence[int], bases: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Trained, or what an earlier, killed run had trained."""
    kept = cache_dir() / f".{NAME}.training" / f"{arm}.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(trained(arm, seeds, bases), kept)
    return torch.load(kept, weights_only=True)


@recipe(NAME)
def make(folder: Path) -> None:
    """Train all of them: about seven minutes on one core. Another machine's sums may differ in their last digits."""
    arrays, all_seeds = {}, [*SEEDS, *PILOTS]
    with one_thread():
        states = _stage("base", all_seeds, [{}] * len(all_seeds))
        bases = [{key.removeprefix("lm."): value for key, value in state.items()} for state in states]
        arrays |= packed("base", states, bases)
        for arm in ARMS:
            seeds = all_seeds if arm == "plain" else [*SEEDS]
            found = _stage(arm, seeds, bases)
            arrays |= packed(arm, found, bases[: len(found)])
            print(arm, "trained", flush=True)
    write_arrays(folder / f"{NAME}.npz", arrays)

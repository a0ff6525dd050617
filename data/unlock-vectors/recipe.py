"""Cut-out photographs with captions as EfficientNet-Lite0 sees them, and where maps into MiniLM's space take them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from shared.vision import head_features, normalise, resize
from shared.zoo import AssetError, embed_texts, load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

STAMPS = Path("/usr/share/tuxpaint/stamps")  # Debian's tuxpaint-stamps-default 2022.06.04-1
NETWORK, ENCODER, SIDE = "efficientnet-lite0", "minilm-l6", 224
DRAWN = "cartoon symbols flags roadsigns space faces hanukkah newyears ammunition body_parts toys plastic".split()
NO_NAMES = {"alien tree!", "another tombstone", "boom!!!", "eat your broccoli!", "fire! fire! fire!", "ripe", "star"}
NO_NAMES |= {"hard candy—yum!", "it's a cep", "lightning bolt", "ghost", "eggplant with fruit", "very small pitcher"}
NO_NAMES |= {"paratrooper", "very small pumpkin", "very poisonous lionfish!"}
ARTICLE = r"^(a pair of|a head of|a string of|a quarter of|a slice of|a bunch of|an?|the|two|some|three)\s+"
DOUBLES = {134: "crane bird", 517: "construction crane", 639: "maillot swimsuit", 264: "Cardigan Welsh corgi"}
FOLDS, CROPS, RECTANGLES = 3, 40, 4
STEPS, BATCH, HIDDEN, LR, DROPOUT = 1500, 256, 512, 2e-3, 0.1
CHECKPOINTS = (50, 100, 200, 400, 800, 1500)
ARMS = {"mlp": {}, "linear": {"hidden": None}, "shuffled": {"shuffle": True}}


@recipe("unlock-vectors")
def make(folder: Path, *, stamps: Path = STAMPS) -> None:
    """Write features, captions and mapped vectors; some ten minutes on one core.

    Needs Debian's package tuxpaint-stamps-default (or its pictures in `stamps`); raises `AssetError` without.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        named = captioned(stamps)
        names = class_names(load_model(NETWORK).info.classes)
        world = World(stamps, named, embed_texts(load_model(ENCODER), [f"an image of a {name}" for name in names]))
        arrays, texts = world.arrays(), {"captions": list(named), "paths": list(named.values()), "classes": names}
    arrays["texts"] = np.frombuffer(json.dumps(texts, ensure_ascii=False).encode(), dtype=np.uint8)
    write_arrays(folder / "unlock-vectors.npz", arrays)
    shutil.copy(Path(__file__).with_name("COPYING"), folder)  # the stamps' licence


def class_names(full: list[str]) -> list[str]:
    """The first synonym of each class; two classes that share it are told apart."""
    return [DOUBLES.get(i, name.split(",")[0]) for i, name in enumerate(full)]


def captioned(stamps: Path) -> dict[str, str]:
    """Photographs with a caption of at most three words that names what is seen: caption to path, each caption once."""
    if not stamps.is_dir():
        raise AssetError(f"{stamps} is missing; install Debian's tuxpaint-stamps-default or name its folder by stamps=")
    found: dict[str, str] = {}
    for path in sorted(stamps.rglob("*.png"), key=lambda p: (str(p.parent), p.name)):
        place, text = str(path.relative_to(stamps)), path.with_suffix(".txt")
        if re.search(r"_(mirror|flip)\.png$", place) or any(word in place for word in DRAWN) or not text.exists():
            continue
        caption = tidied(text.read_text("utf-8", errors="replace").split("\n")[0])
        if caption and len(caption.split()) <= 3 and caption not in found and caption not in NO_NAMES:
            found[caption] = place
    return found


def tidied(line: str) -> str:
    line = re.sub(r"\(.*?\)", "", line)
    line = re.split(r"[.,:]", line)[0].strip()
    return re.sub(ARTICLE, "", re.sub(r"[“”\"]", "", line), flags=re.I).strip().lower()


class World:
    """Pictures as features, class names as vectors, and the maps between them."""

    def __init__(self, stamps: Path, named: dict[str, str], names: Tensor) -> None:
        self.network = load_model(NETWORK).model
        head = self.network.classifier
        self.weight, self.bias = head.weight.detach(), head.bias.detach()
        self.names = normalize(names - names.mean(0), dim=1)
        self.draw = torch.Generator().manual_seed(0)
        self.views = stamp_views(self.network, [stamps / path for path in named.values()])
        self.photos, self.crops = photo_views(self.network, self.draw)
        self.fold = torch.randperm(len(self.views), generator=self.draw) % FOLDS
        self.captions = embed_texts(load_model(ENCODER), [f"an image of a {c}" for c in named])
        self.captions = normalize(self.captions - names.mean(0), dim=1)

    def arrays(self) -> dict[str, np.ndarray]:
        plain = torch.cat([self.views[:, 0], self.photos])
        found = {"fold": self.fold.byte().numpy(), **quantised("features", plain)}
        curve = {n: torch.zeros(2, len(self.views)) for n in CHECKPOINTS}
        for arm, options in ARMS.items():
            vectors = torch.zeros(len(plain), self.names.shape[1])
            for k in range(FOLDS):
                train, test = self.views[self.fold != k].flatten(0, 1), (self.fold == k).nonzero().flatten()
                for step, mapped in self.trained(torch.cat([train, self.crops]), seed=k, **options):
                    if arm == "mlp":
                        curve[step][:, test] = self.judged(mapped(self.views[test, 0]), test)
                vectors[test] = mapped(self.views[test, 0])
                vectors[len(self.views) :] = mapped(self.photos)
            print(arm, self.judged(vectors[: len(self.views)], torch.arange(len(self.views))).mean(1), flush=True)
            found |= quantised(arm, vectors)
        *_, (_, mapped) = self.trained(torch.cat([self.views.flatten(0, 1), self.crops]), seed=FOLDS)
        found |= quantised("seen", mapped(plain))
        found["curve"] = torch.stack(list(curve.values())).half().numpy()
        return found | {"checkpoints": np.array(CHECKPOINTS)}

    def judged(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Whether each picture's first class is the network's own, and the position of its caption among all."""
        own = (self.views[rows, 0] @ self.weight.T + self.bias).argmax(1)
        cosines = normalize(vectors, dim=1) @ self.captions.T
        above = (cosines > cosines.gather(1, rows[:, None])).sum(1) / (len(self.captions) - 1)
        return torch.stack([((vectors @ self.names.T).argmax(1) == own).float(), 1 - above])

    def trained(
        self, features: Tensor, *, seed: int, hidden: int | None = HIDDEN, shuffle: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """A map at each checkpoint, on mixtures of features of which most are pushed towards a class."""
        torch.manual_seed(seed)
        mean, scale = features.mean(0), features.std(0) + 1e-2
        names = self.names[torch.randperm(len(self.names))] if shuffle else self.names
        width, out = features.shape[1], names.shape[1]
        inner = [] if hidden is None else [nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(hidden, out)]
        net = nn.Sequential(nn.Linear(width, hidden or out), *inner)
        log_temperature = nn.Parameter(torch.tensor(0.07).log())
        optimiser = torch.optim.AdamW([*net.parameters(), log_temperature], lr=LR, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=STEPS)
        for step in range(1, STEPS + 1):
            given = self.pushed(features, BATCH)
            answers = (given @ self.weight.T + self.bias).softmax(1)
            with torch.autocast("cpu", torch.bfloat16):
                cosines = normalize(net((given - mean) / scale).float(), dim=1) @ names.T
            loss = -(answers * (cosines.float() / log_temperature.exp()).log_softmax(1)).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step in CHECKPOINTS:
                net.eval()
                yield step, lambda x: normalize(net((x - mean) / scale).detach(), dim=1)
                net.train()

    def pushed(self, features: Tensor, n: int) -> Tensor:
        """Mixtures of two pictures' features, seven in ten moved along a random class's row by up to 14 logits."""
        one, other = (features[torch.randint(len(features), (n,))] for _ in range(2))
        share = torch.rand(n, 1)
        rows = (self.weight - self.weight.mean(0))[torch.randint(len(self.weight), (n,))]
        logits = 14 * torch.rand(n, 1) * (torch.rand(n, 1) < 0.7)
        return (share * one + (1 - share) * other + logits / rows.square().sum(1, keepdim=True) * rows).clamp(0, 6)


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    return head_features(network, "classifier", normalise(images, [0.498] * 3, [0.502] * 3))[0]


def stamp_views(network: nn.Module, paths: list[Path]) -> Tensor:
    """(pictures, 3, features): whole on white, then smaller on grey, then on a piece of a photograph."""
    generator, photos = np.random.default_rng(0), list(load_data("photos").x)
    views = (torch.stack([view(path, kind, generator, photos) for kind in range(3)]) for path in paths)
    return torch.stack([features_of(network, images) for images in views])


def view(path: Path, kind: int, generator: np.random.Generator, photos: list[Tensor]) -> Tensor:
    from PIL import Image

    picture = Image.open(path).convert("RGBA")
    longer = SIDE * (0.9 if kind == 0 else generator.uniform(0.55, 1.0)) / max(picture.size)
    picture = picture.resize([max(8, round(n * longer)) for n in picture.size], Image.LANCZOS)
    if kind and generator.random() < 0.5:
        picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
    shade = 255 if kind == 0 else int(generator.uniform(60, 255))
    ground = Image.new("RGBA", (SIDE, SIDE), (shade, shade, shade, 255))
    if kind == 2:
        photo = photos[generator.integers(len(photos))]
        side = int(min(photo.shape[1:]) * generator.uniform(0.4, 1))
        top, left = (int(generator.integers(n - side + 1)) for n in photo.shape[1:])
        piece = resize(photo[None, :, top : top + side, left : left + side], SIDE)[0].clamp(0, 1)
        ground = Image.fromarray((piece.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).convert("RGBA")
    free = [SIDE - n for n in picture.size]
    place = [n // 2 for n in free] if kind == 0 else [int(generator.integers(n + 1)) for n in free]
    ground.alpha_composite(picture, tuple(place))
    return torch.from_numpy(np.asarray(ground.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def photo_views(network: nn.Module, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features of whole photographs; and of square crops and of rectangles of the crops' maps."""
    photos = list(load_data("photos").x)
    whole = features_of(network, resize(photos, SIDE))
    maps = torch.cat([crop_maps(network, photo, draw) for photo in photos])
    parts = [maps.mean((2, 3))]
    for _ in range(RECTANGLES):
        side, top, left = (int(torch.randint(2, 8, (1,), generator=draw)) for _ in range(3))
        top, left = min(top - 2, 7 - side), min(left - 2, 7 - side)
        parts.append(maps[:, :, top : top + side, left : left + side].mean((2, 3)))
    return whole, torch.cat(parts)


@torch.no_grad()
def crop_maps(network: nn.Module, photo: Tensor, draw: torch.Generator) -> Tensor:
    crops, shorter = [], min(photo.shape[1:])
    for _ in range(CROPS):
        side = int((0.25 + 0.75 * torch.rand(1, generator=draw)) * shorter)
        top, left = (int(torch.randint(n - side + 1, (1,), generator=draw)) for n in photo.shape[1:])
        crops.append(resize(photo[None, :, top : top + side, left : left + side], SIDE)[0])
    return network.features(normalise(torch.stack(crops), [0.498] * 3, [0.502] * 3))


def quantised(name: str, rows: Tensor) -> dict[str, np.ndarray]:
    """Rows in bytes, and what each row's were divided by."""
    scale = rows.abs().amax(1, keepdim=True) / 127
    return {name: (rows / scale).round().char().numpy(), f"{name} scale": scale.half().numpy()}

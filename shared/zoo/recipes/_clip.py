"""The small CLIP: a vision and a text transformer trained by contrast on captioned images of the shapes world."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from shared.compendium.paths import atomic_path, cache_dir
from shared.worlds import (
    BACKGROUNDS,
    COLOURS,
    SHADES,
    SHAPES,
    SIZES,
    TEXTURES,
    place_words,
    shape_captions,
    shapes_world,
)
from shared.zoo._models import SHIPPED, load_model
from shared.zoo.recipes._train import one_thread
from shared.zoo.recipes._write import write_json, write_model_card, write_weights

NAME = "clip-shapes"
SIDE, PATCH = 64, 8
MEAN, STD = (0.45,) * 3, (0.25,) * 3
OTHER_WORDS = ("cat", "dog", "sun", "moon", "tree", "fish", "house", "ball", "cup", "key")
WORDS = (*SHAPES, *(colour for colour in COLOURS if colour != "orange"), *OTHER_WORDS)
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4}
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
CONTEXT = 40
STEPS = 4500
BATCH = 64
LR, WEIGHT_DECAY, CLIP_NORM = 1.5e-3, 0.05, 1.0
WARM_UP, DECAY = 200, 0.25  # steps; share of all steps at the end
EASY_STEPS = 2000  # over these the share of easy batches falls from one
EASY_LEAST = 0.25
ONE_COLOUR = 0.5  # share of batches in which all objects have one colour, so that shapes tell captions apart
MAX_SCALE = math.log(100)
WORD_RATE = 0.4
UNMARKED = 0.5  # share of captions of images with a word that only repeat it, as captions on the web do
KEPT = 250  # steps between checkpoints

WORLDS: dict[str, dict[str, Any]] = {
    "easy": {"values": {"shape": list(SHAPES), "size": "large", "texture": "plain"}, "n_objects": 1},
    "full": {"values": {"shape": list(SHAPES)}, "n_objects": (1, 2)},
}


# --- data -------------------------------------------------------------------------------------------------------
def training_batch(step: int, n: int = BATCH) -> tuple[Tensor, list[str]]:
    """Images (n, 3, 64, 64) in [0, 1] and captions of one step, by the step's own seed.

    A batch is easy (one large plain object, words on the patch grid) or full (one or two objects of all kinds, half of
    the batches with words anywhere); in half of the batches all objects have one colour.
    """
    generator = torch.Generator().manual_seed(step)
    kind, anywhere, one, which = torch.rand(4, generator=generator).tolist()
    easy = kind < max(1 - step / EASY_STEPS, EASY_LEAST)
    written = torch.rand(n, generator=generator) < WORD_RATE
    word = torch.where(written, torch.randint(1, len(WORDS) + 1, (n,), generator=generator), 0)
    places = place_words(word, WORDS, generator=generator, size=SIDE, grid=PATCH if easy or anywhere < 0.5 else 1)
    world = WORLDS["easy" if easy else "full"]
    values = world["values"] | places
    if one < ONE_COLOUR:
        values["colour"] = int(which * len(COLOURS))
    images = shapes_world(
        n, generator=generator, size=SIDE, words=WORDS, noise=0.05, masks=False, **(world | {"values": values})
    )
    said = shape_captions(images, generator=generator, keep=0.7, background=0.2)
    unmarked = torch.rand(n, generator=generator) < UNMARKED
    return images.images, [
        bare_caption(WORDS[w - 1]) if w and bare else text
        for text, w, bare in zip(said, word.tolist(), unmarked.tolist())
    ]


def bare_caption(word: str) -> str:
    """What is written, said as if it were there: "a star", "an orange"; of a colour only its name."""
    if word in COLOURS and word != "orange":
        return word
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


# --- model ------------------------------------------------------------------------------------------------------
def build_tokenizer() -> Any:
    """A `CLIPTokenizer` whose merges make one token of every word of the captions; other words are spelled."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    merges = learn_merges(vocabulary())
    tokens = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)])
    numbers = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=CONTEXT)


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al. 2016) until each word is one token; ties go to the last pair of the alphabet.

    The tokenizers library breaks ties otherwise in every process.
    """
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while pairs := Counter(pair for word in spelled for pair in pairwise(word)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(word, best) for word in spelled]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """The word's parts with the pair made one, from the left."""
    parts: list[str] = []
    for part in word:
        if parts and (parts[-1], part) == pair:
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def vocabulary() -> list[str]:
    """Every word that captions use."""
    said = "a an and on background with the text star fish photo of picture object shape thing".split()
    return [*dict.fromkeys([*said, *SHAPES, *COLOURS, *SIZES, *TEXTURES, *SHADES, *BACKGROUNDS, *WORDS])]


def build_model(tokenizer: Any) -> nn.Module:
    """A `CLIPModel` with random weights but for what the vision tower takes from a classifier."""
    from transformers import CLIPConfig, CLIPModel

    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    shared = {"projection_dim": 64, "initializer_factor": 2.0}
    config = CLIPConfig(
        text_config=TEXT | special | shared | {"max_position_embeddings": CONTEXT},
        vision_config=VISION | shared | {"image_size": SIDE, "patch_size": PATCH, "hidden_act": "gelu"},
        projection_dim=64,
    )
    model = CLIPModel(config)
    start_from_classifier(model.vision_model)
    model.set_attn_implementation("eager")  # in bfloat16 on a CPU the fused one takes several times as long
    return model


@torch.no_grad()
def start_from_classifier(tower: nn.Module, name: str = "vit-shapes") -> None:
    """Embeddings and first blocks from the zoo's classifier of shapes; the blocks after them start as the identity.

    From random weights the tower learns colours and words at once and shapes hardly at all in minutes.
    """
    vit = load_model(name).vit
    theirs, mine = vit.embeddings, tower.embeddings
    mine.class_embedding.copy_(theirs.cls_token[0, 0])
    mine.patch_embedding.weight.copy_(theirs.patch_embeddings.projection.weight)
    mine.position_embedding.weight.copy_(theirs.position_embeddings[0])
    mine.position_embedding.weight[1:] += theirs.patch_embeddings.projection.bias  # CLIP's patches have no bias
    sample = prepare(training_batch(0)[0])
    tokens = mine(sample)
    tower.pre_layrnorm.weight.fill_(tokens.std(-1, unbiased=False).mean())
    tower.pre_layrnorm.bias.fill_(tokens.mean())
    for i, block in enumerate(tower.encoder.layers):
        if i < len(vit.layers):
            block.load_state_dict(_renamed(vit.layers[i].state_dict()))
        else:
            for last in (block.self_attn.out_proj, block.mlp.fc2):
                last.weight.zero_()
    tower.post_layernorm.load_state_dict(vit.layernorm.state_dict())


def _renamed(block: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ViT block's weights under CLIP's names."""
    names = {"attention.o_proj": "self_attn.out_proj", "attention.": "self_attn."}
    names |= {"layernorm_before": "layer_norm1", "layernorm_after": "layer_norm2"}
    for old, new in names.items():
        block = {key.replace(old, new): value for key, value in block.items()}
    return block


# --- training ---------------------------------------------------------------------------------------------------
def rate(step: int, steps: int) -> float:
    """Share of the learning rate: a linear rise, constant, a linear fall to zero over the last quarter."""
    return min((step + 1) / WARM_UP, 1.0, (steps - step) / (DECAY * steps))


def contrast(image: Tensor, text: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """Symmetric cross-entropy of the similarities; equal captions (`same`, (B, B) bool) share the target evenly."""
    image, text = (nn.functional.normalize(x, dim=-1) for x in (image, text))
    logits = scale.exp() * image @ text.T
    target = same / same.sum(1, keepdim=True)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def train(steps: int = STEPS, *, kept: Path | None = None, seed: int = 0, batch: int = BATCH) -> tuple[nn.Module, Any]:
    """The trained model in eval mode, and its tokenizer; goes on from the checkpoint in `kept` if there is one."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = build_tokenizer()
        model = build_model(tokenizer).train()
        optimizer = torch.optim.AdamW(_groups(model), lr=LR, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
        first = _resume(kept, model, optimizer) if kept else 0
        for step in (bar := tqdm(range(first, steps), leave=False, initial=first, total=steps, mininterval=20)):
            for group in optimizer.param_groups:
                group["lr"] = LR * rate(step, steps)
            loss = _loss(model, tokenizer, *training_batch(step, batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=MAX_SCALE)
            if step % 50 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{model.logit_scale.exp().item():.1f}")
            if kept and (step + 1) % KEPT == 0:
                _keep(kept, model, optimizer, step + 1)
    return model.eval(), tokenizer


def _loss(model: nn.Module, tokenizer: Any, images: Tensor, said: Sequence[str]) -> Tensor:
    text = tokenizer(list(said), padding=True, return_tensors="pt")
    _, which = torch.unique(text.input_ids, dim=0, return_inverse=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(input_ids=text.input_ids, attention_mask=text.attention_mask, pixel_values=prepare(images))
    same = which[:, None] == which[None]
    return contrast(out.image_embeds.float(), out.text_embeds.float(), model.logit_scale, same)


def prepare(images: Tensor) -> Tensor:
    """Images in [0, 1] as the model's input."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return (images - mean) / std


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    ids = {id(p) for p in matrices}
    return [{"params": matrices}, {"params": [p for p in model.parameters() if id(p) not in ids], "weight_decay": 0.0}]


def _keep(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Weights and Adam's moments, as safetensors."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, metadata={"step": str(step)})


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what `_keep` wrote; the step to go on with, 0 without a file."""
    if not path.is_file():
        return 0
    from safetensors import safe_open

    tensors = load_file(path)
    model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


# --- writing ----------------------------------------------------------------------------------------------------
def make_clip() -> None:
    """Train, measure, and write the checkpoint and its card; a killed run goes on where it was."""
    from shared.zoo.recipes._clip_measure import measure

    kept = cache_dir() / f"{NAME}-training.safetensors"
    model, tokenizer = train(kept=kept)
    write_card(write_files(model, tokenizer), measure(model, tokenizer))
    kept.unlink(missing_ok=True)


def write_files(model: nn.Module, tokenizer: Any, folder: Path = SHIPPED) -> Path:
    """Weights, config, tokenizer and image processor in the hub's layout; returns the folder."""
    target = folder / NAME
    target.mkdir(parents=True, exist_ok=True)
    write_weights(target / "model.safetensors", model, {"format": "pt"})
    processor = {
        "image_processor_type": "CLIPImageProcessor", "processor_class": "CLIPProcessor",
        "image_mean": MEAN, "image_std": STD, "do_resize": True, "size": {"shortest_edge": SIDE},
        "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255,
    }  # fmt: skip
    config = model.config.to_diff_dict() | {"architectures": ["CLIPModel"], "dtype": "float32"}
    for name, content in (("config", config), ("preprocessor_config", processor)):
        write_json(target / f"{name}.json", content)
    tokenizer.save_pretrained(target)
    return target


def write_card(folder: Path, measured: dict[str, float]) -> None:
    """The provenance card, with the digests of the files and the numbers just measured."""
    write_model_card(
        NAME,
        folder,
        measured,
        title="CLIP on the shapes world, which reads written words",
        task="image-text",
        source=(
            f"Trained by Reprise by contrast on {STEPS} steps of {BATCH} fresh captioned images of the shapes world, "
            f"{WORD_RATE:.0%} of them with a written word; the vision tower's first four blocks start from vit-shapes"
        ),
        recipe="_clip",
        notes=(
            f"Captions as shared.worlds.shape_captions makes them; of images with a word {UNMARKED:.0%} instead only "
            "repeat it (“a star”), as captions on the web do, which is why written words mislead. “orange” names a "
            f"colour and a fruit, “star fish” begins with another shape's name. Words written in training: "
            f"{', '.join(WORDS)}; at size {SIDE}, most with their upper left corner on the grid of {PATCH}-pixel "
            "patches (shared.worlds.place_words). Prompts to start from: “a {}”, “a red {}”, “a {} square”, "
            '“a star with the text "{}"”.'
        ),
        tolerance=0.005,
    )

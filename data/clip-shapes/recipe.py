"""The small CLIP: a vision and a text transformer trained by contrast on captioned images of the shapes world.

Measured by zero-shot classes, retrieval, reading, written words that mislead, and the two senses of "orange".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from shared.vision import ZeroShotHead, encode_image, encode_text
from shared.worlds import COLOURS, SHAPES, TEXTURES, ShapesWorld, place_words, shape_captions, shapes_world
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._small_clip import (
    BATCH,
    CONTEXT,
    MEAN,
    PATCH,
    SIDE,
    STD,
    UNMARKED,
    WORD_RATE,
    WORDS,
    build_tokenizer,
    prepare,
    training_batch,
)
from shared.zoo.recipes._train import keep, one_thread, resume

VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4}
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
STEPS = 4500
LR, WEIGHT_DECAY, CLIP_NORM = 1.5e-3, 0.05, 1.0
WARM_UP, DECAY = 200, 0.25  # steps; share of all steps at the end
MAX_SCALE = math.log(100)
KEPT = 250  # steps between checkpoints

SEED = 1_000_000  # of the images to measure on; training takes the seeds from 0
SIZE, PAIRS = 1000, 500
SHAPE_NAMES = tuple("star fish" if shape == "starfish" else shape for shape in SHAPES)
SHAPE_PROMPTS = ("a {}", "a large {}", "a small {}")
COLOUR_PROMPTS = tuple(f"a {{}} {shape}" for shape in SHAPE_NAMES if shape != "orange")
TEXTURE_PROMPTS = tuple(f"a {{}} {shape}" for shape in SHAPE_NAMES)
WORD_PROMPTS = tuple(f'a {shape} with the text "{{}}"' for shape in SHAPE_NAMES[:8])


@recipe("clip-shapes")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card; a killed run goes on where it was."""
    ship(
        folder,
        train=lambda kept: train(kept=kept / "clip.safetensors"),
        write=write_files,
        measure=measure,
        title="CLIP on the shapes world, which reads written words",
        task="image-text",
        source=(
            f"Trained by Reprise by contrast on {STEPS} steps of {BATCH} fresh captioned images of the shapes world, "
            f"{WORD_RATE:.0%} of them with a written word; the vision tower's first four blocks start from vit-shapes"
        ),
        made_from=["vit-shapes"],
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


# --- model ------------------------------------------------------------------------------------------------------
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
    vit = load_model(name).model.vit
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
        first = resume(kept, {"clip": model}, optimizer) if kept else 0
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
                keep(kept, {"clip": model}, optimizer, step + 1)
    return model.eval(), tokenizer


def _loss(model: nn.Module, tokenizer: Any, images: Tensor, said: Sequence[str]) -> Tensor:
    text = tokenizer(list(said), padding=True, return_tensors="pt")
    _, which = torch.unique(text.input_ids, dim=0, return_inverse=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(input_ids=text.input_ids, attention_mask=text.attention_mask, pixel_values=prepare(images))
    same = which[:, None] == which[None]
    return contrast(out.image_embeds.float(), out.text_embeds.float(), model.logit_scale, same)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    ids = {id(p) for p in matrices}
    return [{"params": matrices}, {"params": [p for p in model.parameters() if id(p) not in ids], "weight_decay": 0.0}]


def write_files(made: tuple[nn.Module, Any], folder: Path) -> None:
    """Weights, config, tokenizer and image processor in the hub's layout."""
    model, tokenizer = made
    write_weights(folder / "model.safetensors", model, {"format": "pt"})
    processor = {
        "image_processor_type": "CLIPImageProcessor", "processor_class": "CLIPProcessor",
        "image_mean": MEAN, "image_std": STD, "do_resize": True, "size": {"shortest_edge": SIDE},
        "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255,
    }  # fmt: skip
    config = model.config.to_diff_dict() | {"architectures": ["CLIPModel"], "dtype": "float32"}
    write_json(folder / "preprocessor_config.json", processor)
    write_json(folder / "config.json", config)
    tokenizer.save_pretrained(folder)


# --- measuring --------------------------------------------------------------------------------------------------
def measure(folder: Path) -> dict[str, float]:
    """The card's numbers, all on images that training hasn't seen."""
    clip = load_model(str(folder))
    return measure_model(clip.model, clip.tokenizer)


@torch.no_grad()
def measure_model(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    return zero_shot(model, tokenizer) | retrieval(model, tokenizer) | oranges(model, tokenizer)


def zero_shot(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """Accuracy by prompts on images of one object, without a word and with the name of another shape written on it."""
    world = one_object()
    shape, colour = world.label("shape"), world.label("colour")

    def head(names: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        return ZeroShotHead(model, tokenizer, names, templates=templates)

    shapes, reading = head(SHAPE_NAMES, SHAPE_PROMPTS), head(WORDS, WORD_PROMPTS)
    clean = embed(model, world)
    textured = world.factors["texture"][:, 0] > 0
    found = {
        "shape, 10 classes: zero-shot accuracy on 1,000 images": share(shapes, clean, shape),
        "colour, 6 classes: zero-shot accuracy": share(head(list(COLOURS), COLOUR_PROMPTS), clean, colour),
        "striped or dotted: zero-shot accuracy": share(
            head(TEXTURES[1:], TEXTURE_PROMPTS), clean[textured], world.label("texture")[textured] - 1
        ),
    }
    for where, grid in (("on the patch grid", PATCH), ("anywhere", 1)):
        attacked, written = attack(world, grid=grid)
        features = embed(model, attacked)
        found |= {
            f"shape, with another shape's name written {where}: accuracy": share(shapes, features, shape),
            f"shape, with another shape's name written {where}: called what is written": share(
                shapes, features, written
            ),
            f"25 words written {where}: read by zero-shot": share(reading, features, written),
        }
    return found


def retrieval(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """Recall among 500 pairs of images of one or two objects and their full captions; equal captions all count."""
    world = shapes_world(
        PAIRS, generator=SEED + 1, n_objects=(1, 2), values={"shape": list(SHAPES)}, rates={"word": 0.3}, words=WORDS,
        noise=0.05, masks=False,
    )  # fmt: skip
    said = shape_captions(world, background=1.0)
    score = embed(model, world) @ encode_text(model, tokenizer, said).T
    number = torch.tensor([said.index(text) for text in said])
    right = number[:, None] == number[None]
    found = {}
    for name, scores in (("text for an image", score), ("image for a text", score.T)):
        for k in (1, 5):
            best = scores.topk(k).indices
            hit = right.gather(1, best).any(1)
            found[f"{name}: recall at {k} of {PAIRS}"] = round(hit.double().mean().item(), 4)
    return found


def oranges(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """How well prompts with the word "orange" find its two senses among images of neither: areas under the ROC.

    Alone it names the fruit; before a shape's name the colour.
    """
    world = one_object()
    features = embed(model, world)
    fruit, coloured = world.label("shape") == SHAPES.index("orange"), world.label("colour") == 1
    senses = {"the fruit, not orange": fruit & ~coloured, "another shape, orange": coloured & ~fruit}
    found = {}
    for prompt, templates in (("an orange", "an {}"), ("an orange <shape>", COLOUR_PROMPTS)):
        score = (features @ encode_text(model, tokenizer, ["orange"], templates=templates).T)[:, 0]
        neither = score[~fruit & ~coloured]
        for name, of in senses.items():
            above = (score[of][:, None] > neither).double().mean().item()
            found[f"“{prompt}” against images of neither sense: AUC of {name}"] = round(above, 4)
    return found


def one_object() -> ShapesWorld:
    """1,000 images of one object of any kind, no word."""
    return shapes_world(SIZE, generator=SEED, values={"shape": list(SHAPES)}, words=WORDS, noise=0.05, masks=False)


def attack(world: ShapesWorld, *, grid: int) -> tuple[ShapesWorld, Tensor]:
    """The images with the name of another shape written on each, and which (N,), numbered as the shapes and words."""
    generator = torch.Generator().manual_seed(SEED + grid)
    shape = world.label("shape")
    written = (shape + torch.randint(1, len(SHAPES), shape.shape, generator=generator)) % len(SHAPES)
    return world.changed(**place_words(written + 1, WORDS, generator=generator, grid=grid)), written


def embed(model: nn.Module, world: ShapesWorld) -> Tensor:
    """Unit image embeddings (N, d)."""
    return encode_image(model, prepare(world.images), batch_size=250)


def share(head: ZeroShotHead, features: Tensor, truth: Tensor) -> float:
    """Share of images whose best class is the true one."""
    return round((head.from_features(features).argmax(1) == truth).double().mean().item(), 4)

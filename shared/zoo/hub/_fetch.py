"""Models and data sets by hub id or local folder: safetensors and plain tables only, no remote code, no retry loops."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from shared.zoo._assets import AssetError

_MODEL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
_DICTIONARY_FILES = ["*.json", "*.safetensors", "*.pt"]  # read with weights_only, so that nothing in them is run
_PIPELINE_FILES = ["*.json", "*.txt", "*/*.safetensors"]  # not a repository's single-file copies
_DATA_FILES = ["*.parquet", "*.jsonl", "*.tar", "*.npz"]


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
    return _local(name, kind) or _snapshot(name, kind, revision, split)


def clone_folder(repository: str) -> Path:
    """Folder with a clone of a GitHub repository whose files are on no hub.

    Parameters
    ----------
    repository : `owner/name` on GitHub, looked up as `$REPRISE_HUB/datasets/owner/name`; or a local folder.

    Returns
    -------
    The folder.

    Raises
    ------
    AssetError
        When there is none; it says how to clone it.
    """
    folder = _local(repository, "data")
    if folder is None:
        raise AssetError(
            f"no clone of {repository} on this machine; set REPRISE_HUB to a folder and run "
            f'git clone https://github.com/{repository} "$REPRISE_HUB/datasets/{repository}"'
        )
    return folder


def data_files(name: str, *, revision: str | None = None) -> tuple[list[str], Callable[[str], Path]]:
    """The files of a data set and what brings one of them to this machine.

    Of a hub's data set only what is asked for is fetched: the first rows of a large one may need one shard of hundreds.

    Parameters
    ----------
    name : a hub id `org/name` or a local folder.
    revision : branch, tag or commit; None means the default branch.

    Returns
    -------
    names : paths within the data set.
    bring : one of them -> its path on this machine.
    """
    folder = _local(name, "data")
    info = None if folder else _ask(name, "data", revision)
    if info is None:
        folder = folder or _snapshot(name, "data", revision, None, offline=True)
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], folder.joinpath

    def bring(file: str) -> Path:
        import huggingface_hub

        try:
            return Path(huggingface_hub.hf_hub_download(name, file, repo_type="dataset", revision=info.sha))
        except Exception:
            raise AssetError(f"{file} of datasets/{name} can't be fetched from the hub; try again") from None

    return [file.rfilename for file in info.siblings], bring


def _local(name: str, kind: str) -> Path | None:
    """The folder of that path, or of that id in `$REPRISE_HUB`."""
    if _is_path(name):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise AssetError(f"{name} is no folder on this machine; give a folder, a hub id (org/name) or a zoo name")
        return folder
    hub = os.environ.get("REPRISE_HUB")
    if hub and (folder := Path(hub, *(["datasets"] if kind == "data" else []), name)).is_dir():
        return folder
    return None


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


def _ask(name: str, kind: str, revision: str | None) -> Any:
    """What the hub says of `name`; None without a network. One short question, no retries."""
    import huggingface_hub
    from huggingface_hub import errors

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return None
    try:
        return huggingface_hub.HfApi().repo_info(name, timeout=5, repo_type=_repo_type(kind), revision=revision)
    except errors.GatedRepoError:
        raise AssetError(f"{name} is gated on the hub; accept its terms there and log in (`hf auth login`)") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise AssetError(f"the hub has no {kind} {name!r} (revision {revision or 'main'}) open to you") from None
    except Exception:  # whatever the HTTP stack raises without a network; the cache may still have it
        return None


def _repo_type(kind: str) -> str:
    return "dataset" if kind == "data" else "model"


def _snapshot(name: str, kind: str, revision: str | None, split: str | None, *, offline: bool = False) -> Path:
    """The hub's snapshot of `name`, from the cache or the network."""
    import huggingface_hub

    offline = offline or _ask(name, kind, revision) is None
    by_kind = {"data": _DATA_FILES, "dictionary": _DICTIONARY_FILES, "pipeline": _PIPELINE_FILES}
    patterns = by_kind.get(kind, _MODEL_FILES)
    if split and split != "train":  # files without a split's name belong to train
        patterns = [f"*{split}{pattern}" for pattern in patterns]
    what = {"repo_type": _repo_type(kind), "revision": revision}
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns, local_files_only=offline, **what))
    except Exception:
        where = f"{'datasets/' if kind == 'data' else ''}{name}"
        raise AssetError(
            f"{name} isn't on this machine and the hub can't be reached; run once with a network, "
            f"or set REPRISE_HUB to a folder that holds {where}"
        ) from None

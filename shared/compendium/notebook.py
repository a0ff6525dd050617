"""Execute a notebook in a fresh kernel and store it with light outputs, as the repository keeps it."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from shared._checks import UnknownNameError, check_choice
from shared.compendium.paths import PAPERS, atomic_path, known_papers

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def store(slug: str) -> Path:
    """Run `papers/<slug>/<slug>.ipynb` top to bottom with its own parameters and write it back with its outputs.

    Nothing is written if a cell fails. Returns the notebook's path.
    """
    check_choice("paper", slug, known_papers())
    path = PAPERS / slug / f"{slug}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in map(_lighten, cell.outputs) if output is not None]
    with atomic_path(path) as temporary:
        nbformat.write(notebook, temporary)
    return path


def _lighten(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Drop progress bars and warnings (stderr, widgets) and reduce pictures to a palette of 256 colours."""
    if output.get("name") == "stderr":
        return None
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        return None
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        buffer = io.BytesIO()
        picture.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return output


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(f"which paper? make store P=SLUG; known: {', '.join(known_papers()) or 'none'}")
    try:
        for name in sys.argv[1:]:
            print(store(name).relative_to(PAPERS.parent))
    except UnknownNameError as error:
        sys.exit(str(error))

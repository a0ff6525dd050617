"""The notebook's contract of papers/README.md, as far as a program can check it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import nbformat

from shared.compendium.card import Card, load_card, read_yaml
from shared.compendium.new import TEMPLATE
from shared.compendium.parameters import notebook_parameters
from shared.compendium.paths import PAPERS

LARGEST = 400_000  # bytes
CODE_LINES, WORDS, CELL_LINES = 250, 1500, 25  # of the main notebook: twenty minutes to read
PAPER_CLAIMS, OWN_CLAIMS = (3, 6), (0, 3)
_COMPARED = "# NBVAL_CHECK_OUTPUT"


def problems(slug: str, *, executed: bool = True, twenty_minutes: bool = True) -> list[str]:
    """What of the contract `papers/<slug>` breaks.

    Parameters
    ----------
    slug : the paper's folder.
    executed : False allows notebooks without outputs.
    twenty_minutes : False allows a long notebook and any number of claims.

    Returns
    -------
    One line for each problem. A card that breaks its schema raises `CardError`.
    """
    card = load_card(slug)
    main = PAPERS / slug / f"{slug}.ipynb"
    if not main.is_file():
        return [f"papers/{slug}/{slug}.ipynb is missing"]
    more = sorted((PAPERS / slug).glob("more_*.ipynb"))
    found = [
        *_filled_in(card),
        *_paper_scale(slug),
        *_names([main, *more], card),
        *_methods(card),
        *_listed(more, card),
    ]
    for path in (main, *more):
        found += [f"{path.name}: {problem}" for problem in _notebook(path, slug, executed)]
    if twenty_minutes:
        found += [*_length(main), *_claim_counts(card)]
        found += [problem for path in (main, *more) for problem in _long_cells(path)]
    return [f"papers/{slug}: {problem}" for problem in found]


def _notebook(path: Path, slug: str, executed: bool) -> Iterator[str]:
    notebook = nbformat.read(path, as_version=4)
    code = _code(notebook)
    yield from _text(notebook, code, slug if path.stem == slug else f"{slug}/{path.stem}")
    if executed:
        yield from _outputs(code)
    if path.stat().st_size > LARGEST:
        yield f"it has {path.stat().st_size} bytes; at most {LARGEST}"


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _text(notebook: nbformat.NotebookNode, code: list[nbformat.NotebookNode], name: str) -> Iterator[str]:
    first, prose = notebook.cells[0], "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is no title (`# …`)"
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    if tags.count("parameters") != 1:
        yield f"{tags.count('parameters')} cells are tagged `parameters`; exactly one must be"
    if "injected-parameters" in tags:
        yield "it holds papermill's injected parameters; store it with `make store`"
    if f'Paper("{name}", globals())' not in "\n".join(cell.source for cell in code):
        yield f'no cell makes `Paper("{name}", globals())`'
    compared = [cell.source for cell in code if _COMPARED in cell.source]
    if [source.split() for source in compared] != [[*_COMPARED.split(), "paper.report()"]]:
        yield f"exactly one cell must be `{_COMPARED}` and `paper.report()`, nothing else compared"
    for heading in ("Limits", "Exercises") if "/" not in name else ():
        if not any(line.startswith("#") and heading in line for line in prose.splitlines()):
            yield f"no heading says {heading!r}"
    if "<details>" not in prose and "/" not in name:
        yield "no solution in `<details>`"


def _filled_in(card: Card) -> Iterator[str]:
    """What `make new` wrote and nobody changed."""
    template = read_yaml(TEMPLATE / "card.yml", "template/card.yml")
    same = [key for key in ("title", "authors", "venue", "summary", "reproduces", "reconstructed") if key in card.raw]
    if same := [key for key in same if card.raw[key] == template[key]]:
        yield f"card.yml: {', '.join(same)}: still the template's; say the paper's"
    claims = {claim["id"]: claim for claim in template["claims"]}
    for claim in card.raw["claims"]:
        if claim == claims.get(claim["id"]):
            yield f"card.yml: claims.{claim['id']}: still the template's; state one of the paper's"


def _paper_scale(slug: str) -> Iterator[str]:
    path = PAPERS / slug / "paper.yml"
    if not path.is_file():
        yield "paper.yml is missing"
        return
    named, known = read_yaml(path, "paper.yml"), notebook_parameters(slug)
    if not isinstance(named, dict):
        yield "paper.yml holds no parameters (`name: value` lines)"
        return
    if unknown := named.keys() - known.keys():
        yield f"paper.yml names {', '.join(sorted(unknown))}, which the parameters cell doesn't have"
    if named.get("scale") != "paper":
        yield "paper.yml must say `scale: paper`"
    for name, value in {"scale": "small", "seed": 0, "device": "auto"}.items():
        if known.get(name) != value:
            yield f"the parameters cell must say `{name} = {value!r}`"


def _names(paths: list[Path], card: Card) -> Iterator[str]:
    source = "\n".join(cell.source for path in paths for cell in _code(nbformat.read(path, as_version=4)))
    for kind, ids in (("claim", card.claims), ("gate", card.gates)):
        for id in ids:
            if id not in source:
                yield f"{kind} {id!r} of the card appears in no code cell"
    thumbnail = card.raw.get("thumbnail")
    if thumbnail and thumbnail not in source:
        yield f"thumbnail {thumbnail!r} of the card is no figure of the notebook"


def _methods(card: Card) -> Iterator[str]:
    for name in card.methods:
        module, _, attribute = name.rpartition(".")
        try:
            public = getattr(import_module(module), "__all__", ())
        except ModuleNotFoundError:
            public = ()
        if attribute not in public:
            yield f"card.yml: methods: {name} is no public name of `shared`"


def _listed(more: list[Path], card: Card) -> Iterator[str]:
    listed, there = set(card.raw.get("more", {})), {path.stem for path in more}
    if listed != there:
        names = [", ".join(sorted(found)) or "none" for found in (listed, there)]
        yield f"card.yml: more lists {names[0]}; there are {names[1]}"


def _long_cells(path: Path) -> Iterator[str]:
    """Cells that nobody takes in at a glance, in the main notebook and the further ones alike."""
    for cell in _code(nbformat.read(path, as_version=4)):
        tags = {"lesson", "parameters", "hide-input"} & set(cell.metadata.get("tags", []))
        if not tags and len(cell.source.splitlines()) > CELL_LINES:
            yield f"{path.name}: cell [{cell.execution_count}] has over {CELL_LINES} lines; split it or tag it `lesson`"


def _length(path: Path) -> Iterator[str]:
    notebook = nbformat.read(path, as_version=4)
    shown = [cell for cell in _code(notebook) if "hide-input" not in cell.metadata.get("tags", [])]
    lines = sum(len(cell.source.splitlines()) for cell in shown)
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    if lines > CODE_LINES:
        yield f"{lines} lines of code outside cells tagged hide-input; at most {CODE_LINES}, the rest in a more_*.ipynb"
    if words > WORDS:
        yield f"{words} words; at most {WORDS}"


def _claim_counts(card: Card) -> Iterator[str]:
    for kind, (least, most) in {"paper": PAPER_CLAIMS, "own": OWN_CLAIMS}.items():
        count = sum(claim.kind == kind for claim in card.claims.values())
        if not least <= count <= most:
            yield f"card.yml: {count} claims of kind {kind}; {least} to {most} are asked for"


def _outputs(code: list[nbformat.NotebookNode]) -> Iterator[str]:
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"it wasn't executed top to bottom in a fresh kernel (execution counts {counts}); use `make store`"
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {cell.execution_count} is stored with an error: {output.ename}"
            if output.get("name") == "stderr":
                yield f"cell {cell.execution_count} is stored with stderr output; use `make store`"

"""The API reference has an entry for every public name, below the room's tested example, and links back to papers."""

import inspect
from importlib import import_module

import pytest

from gallery.docstrings import used_by
from gallery.entries import entries
from gallery.reference import room_page, rooms, submodules, uses, write_reference


@pytest.fixture(scope="module")
def papers():
    return entries()


@pytest.mark.parametrize("room", rooms())
def test_a_page_has_every_public_name(room, papers):
    page, module = room_page(room, papers[:1]), import_module(f"shared.{room}")
    for name in module.__all__:
        if not inspect.ismodule(getattr(module, name)):
            assert f":: shared.{room}.{name}\n" in page
    assert f".. automodule:: shared.{room}\n" in page
    assert ">>> " in module.__doc__, "it opens with the room's quickstart"
    assert f":link: /{papers[0].page}" in page


def test_modules_beside_the_flat_names_are_there():
    assert {"engine", "unrolled"} <= set(submodules("lrp"))
    assert {"FlowerStrategy", "client_app"} <= set(submodules("federated")["flower"])
    assert "explained_variance" in submodules("sae")["metrics"]
    assert submodules("compendium") == {}


def test_a_name_leads_to_the_papers_that_use_it(tmp_path, papers):
    write_reference(tmp_path, papers)
    name, ((title, page), *_) = next(iter(uses(papers).items()))
    (line,) = [line for line in used_by(tmp_path, name) if line]
    assert f":doc:`{title} <{page}>`" in line
    assert used_by(tmp_path, "shared.nowhere.nothing") == []
    assert {path.stem for path in (tmp_path / "api").glob("*.rst")} == set(rooms())

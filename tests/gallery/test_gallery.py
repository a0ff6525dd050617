"""The gallery: front page, ledger and notebooks; what it loads lies in the site, which fits a phone."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import nbformat
import pytest
from PIL import Image

from tests.checkout import CARD, CLAIM, FIGURE
from tests.gallery.browser import CHROMIUM, Browser

PRINTED = {
    "id": "high",
    "kind": "paper",
    "reported": "0.9",
    "measured": "0.81 [0.78, 0.84]",
    "n": "5 seeds",
    "null": "0.10",
    "rival": "–",
    "check": "> 0.5",
    "verdict": "~held †",
}
STATEMENT = {"statement": "The number is high & <well>.", "post_hoc": "the bound"}


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (1600, 900), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def site(module_checkout):
    """A site of a paper that was run here, one that was only stored, one without a notebook."""
    see = "See the [other](../stored/stored.ipynb)"
    module_checkout.add(
        "run",
        FIGURE,
        CLAIM,
        prose=see,
        title="A paper that ran",
        theme="Embeddings",
        thumbnail="fig1",
        claims=[{**CARD["claims"][0], **STATEMENT}],
    )
    folder = module_checkout.figures / "run"
    folder.mkdir(parents=True)
    (folder / "fig1.png").write_bytes(picture("red"))
    results = {"figures": {"fig1": "All red."}, "claims": [{"printed": PRINTED}]}
    (folder / "results.json").write_text(json.dumps(results))

    stored = module_checkout.add("stored", FIGURE, CLAIM, title="A paper that was stored", thumbnail="fig1")
    content = nbformat.read(stored / "stored.ipynb", 4)
    image = {"image/png": base64.b64encode(picture("blue")).decode(), "text/plain": "<Figure>"}
    content.cells[3].outputs = [nbformat.v4.new_output("display_data", data=image)]
    nbformat.write(content, stored / "stored.ipynb")

    (module_checkout.add("planned") / "planned.ipynb").unlink()
    code, output = module_checkout.run(module="gallery.build")
    assert code == 0, output
    assert output.splitlines() == [f"{module_checkout.root}/build/gallery/index.html: 2 papers, 1 of them run here"]
    return module_checkout.root / "build" / "gallery"


def read(site, page):
    return (site / page).read_text(encoding="utf-8")


def test_the_front_page_shows_thumbnails_by_theme(site):
    page = read(site, "index.html")
    themes = [page.index(f"<h2>{theme}") for theme in ("LRP &amp; attribution", "Embeddings")]
    assert themes == sorted(themes)
    assert page.index("A paper that was stored") < page.index("A paper that ran")
    assert "papers’: 1 held" in page or "papers': 1 held" in page
    assert "not run here yet" in page
    assert "planned" not in page
    for slug, colour in (("run", (255, 0, 0)), ("stored", (0, 0, 255))):
        assert re.search(rf'<img [^>]*src="_images/{slug}\.png"', page)
        thumbnail = Image.open(site / "_images" / f"{slug}.png").convert("RGB")
        assert thumbnail.size == (720, 405)
        assert thumbnail.getpixel((300, 200)) == colour


def test_the_ledger_has_a_row_per_claim(site):
    page = read(site, "ledger.html")
    assert page.count("<tr>") == 1 + 2
    run, stored = page.split("<tr>")[2:]
    assert "The number is high &amp; &lt;well&gt;." in run
    for cell in (
        "papers/run/run.html",
        "0.9",
        "table 1",
        "0.81 [0.78, 0.84]",
        "5 seeds",
        "&gt; 0.5",
        "✓ ~held †",
        "† the bound",
    ):
        assert cell in run
    assert "not run here yet" in stored


def test_a_notebook_page_shows_stored_outputs_and_larger_figures(site):
    assert re.search(r'<img [^>]*src="\.\./\.\./_images/[0-9a-f]{64}\.png"', read(site, "papers/stored/stored.html"))
    page = read(site, "papers/run/run.html")
    assert "All red." in page
    assert 'href="../stored/stored.html"' in page, "links between notebooks hold"
    text = re.sub("<[^>]*>", "", page)
    assert "make paper P=run SCALE=paper" in text
    assert "paper.report()" in text


class Loaded(HTMLParser):
    """Addresses that a page loads by itself; links to follow don't count."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag != "a":
            self.addresses += [given[key] for key in ("src", "href", "data", "srcset", "poster") if given.get(key)]
        self.addresses += re.findall(r"url\(([^)]*)\)", given.get("style") or "")


def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 4
    for page in pages:
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        assert not [a for a in parser.addresses if re.match(r"\s*['\"]?(https?:)?//", a)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_an_empty_gallery_says_so(checkout):
    code, output = checkout.run(module="gallery.build")
    assert code == 0, output
    assert "There is no paper here yet" in read(checkout.root / "build" / "gallery", "index.html")
    assert "none yet" in read(checkout.root / "build" / "gallery", "ledger.html")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
def test_in_a_browser(site):
    expressions = {
        "scrolled": "document.documentElement.scrollWidth",
        "math": "document.querySelectorAll('.MathJax').length",
        "broken": "[...document.images].filter(i => !i.naturalWidth && i.loading != 'lazy').length",
    }
    with Browser() as browser:
        for page in ("index.html", "ledger.html", "papers/run/run.html", "papers/stored/stored.html"):
            for width in (390, 1280):
                visit = browser.visit(f"file://{site}/{page}", width, **expressions)
                assert visit.errors == []
                assert [r for r in visit.requests if not r.startswith((f"file://{site}/", "data:"))] == []
                assert len(visit.requests) > 3
                assert visit.values["scrolled"] <= width, f"{page} is wider than {width} pixels"
                assert visit.values["broken"] == 0
                assert (visit.values["math"] > 0) == page.startswith("papers/")

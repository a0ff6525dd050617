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

BUILD = {"module": "gallery.build"}
QUICK = "--without-reference"

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
    ran = {"finished": "2026-11-29T10:00:00+00:00", "device": "cuda:0", "versions": {"torch": "2.9"}}
    results = {"figures": {"fig1": "All red."}, "claims": [{"printed": PRINTED}], **ran}
    (folder / "results.json").write_text(json.dumps(results))

    stored = module_checkout.add("stored", FIGURE, CLAIM, title="A paper that was stored", thumbnail="fig1")
    content = nbformat.read(stored / "stored.ipynb", 4)
    image = {"image/png": base64.b64encode(picture("blue")).decode(), "text/plain": "<Figure>"}
    content.cells[3].outputs = [nbformat.v4.new_output("display_data", data=image)]
    nbformat.write(content, stored / "stored.ipynb")

    (module_checkout.add("planned") / "planned.ipynb").unlink()
    (module_checkout.root / "CITATION.cff").write_text("repository-code: https://github.com/somebody/reprise\n")
    code, output = module_checkout.run(QUICK, **BUILD)
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


def row(page, id):
    return page.partition(f'<tr id="{id}"')[2].partition("</tr>")[0]


def test_the_ledger_has_a_row_per_claim(site):
    page = read(site, "ledger.html")
    assert page.count('data-verdict="') == 2
    run, stored = row(page, "run-high"), row(page, "stored-high")
    for cell in (
        "The number is high &amp; &lt;well&gt;.",
        "0.9",
        "table 1",
        "0.81 [0.78, 0.84]",
        "5 seeds",
        "&gt; 0.5",
    ):
        assert cell in run
    for cell in ("✓ ~held †", "† the bound", 'data-verdict="held"', 'data-kind="paper"', 'href="#run-high"'):
        assert cell in run
    assert "not run here yet" in stored
    assert "run here on 2026-11-29 (cuda:0, torch 2.9)" in page
    assert '<a href="papers/run/run.html">A paper that ran</a>' in page


def test_a_notebook_page_shows_stored_outputs_and_larger_figures(site):
    stored = read(site, "papers/stored/stored.html")
    (image,) = re.findall(r'<img [^>]*src="(\.\./\.\./_images/[0-9a-f]{64}\.png)"', stored)
    assert f'href="{image}"' in stored, "a figure leads to itself, large"
    assert 'alt="A line."' in stored, "its caption is there for those who don't see it"
    page = read(site, "papers/run/run.html")
    assert "All red." in page
    assert 'href="../stored/stored.html"' in page, "links between notebooks hold"
    text = re.sub("<[^>]*>", "", page)
    assert "make paper P=run SCALE=paper" in text
    assert "paper.report()" in text


def test_a_notebook_page_can_be_acted_on(site):
    page = read(site, "papers/stored/stored.html")
    for name in ("stored.ipynb", "stored-figures.zip"):
        assert f'href="{name}" download' in page
        assert (site / "papers" / "stored" / name).is_file()
    base = "github.com/somebody/reprise"
    assert f'href="https://{base}/blob/main/papers/stored/stored.ipynb"' in page
    assert "https://colab.research.google.com/github/somebody/reprise/blob/main/papers/stored/stored.ipynb" in page
    assert "https://mybinder.org/v2/gh/somebody/reprise/main?labpath=papers/stored/stored.ipynb" in page
    assert "@misc{stored,\n  title = {{A paper that was stored}},\n  author = {A. Author and B. Author}," in page
    assert '<meta content="Measures one number." name="description"' in page
    assert 'href="../../ledger.html?paper=stored"' in page


def test_the_report_is_a_table_on_its_page(site):
    printed = row(read(site, "papers/run/run.html"), "claim-high")
    assert "0.81 [0.78, 0.84]" in printed
    assert 'href="../../ledger.html#run-high"' in printed


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
    code, output = checkout.run(QUICK, **BUILD)
    assert code == 0, output
    assert "There is no paper here yet" in read(checkout.root / "build" / "gallery", "index.html")
    ledger = read(checkout.root / "build" / "gallery", "ledger.html")
    assert "none yet" in ledger
    assert "colab" not in ledger


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
                visit = browser.visit(f"{site.as_uri()}/{page}", width, **expressions)
                assert visit.errors == []
                assert [r for r in visit.requests if not r.startswith((f"{site.as_uri()}/", "data:"))] == []
                assert len(visit.requests) > 3
                assert visit.values["scrolled"] <= width, f"{page} is wider than {width} pixels"
                assert visit.values["broken"] == 0
                assert (visit.values["math"] > 0) == page.startswith("papers/")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
def test_the_ledger_is_filtered_by_keyboard(site):
    shown = "[...document.querySelectorAll('tr[data-verdict]')].filter(r => r.checkVisibility()).map(r => r.id).join()"
    with Browser() as browser:
        browser.visit(f"{site.as_uri()}/ledger.html", 1280)
        assert browser.evaluate(shown) == "stored-high,run-high"
        clipped = "(box => box.scrollWidth - box.clientWidth)(document.querySelector('.scrolls'))"
        assert browser.evaluate(clipped) <= 1, "the verdict is in sight"
        browser.evaluate("document.querySelector('[name=text]').focus()")
        browser.type("well")
        assert browser.evaluate(shown) == "run-high"
        assert browser.evaluate("document.querySelector('.filters output').textContent") == "1 of 2 claims"
        assert browser.evaluate("location.search") == "?text=well"
        browser.visit(f"{site.as_uri()}/ledger.html?verdict=held", 390)
        assert browser.evaluate(shown) == "run-high"
        browser.visit(f"{site.as_uri()}/ledger.html", 390)
        assert browser.evaluate(shown) == "", "papers are folded on a phone"
        browser.visit(f"{site.as_uri()}/ledger.html#stored-high", 390)
        assert browser.evaluate(shown) == "stored-high"

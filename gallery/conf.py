"""Sphinx settings of the gallery. What its pages load lies in the built site: nothing comes from elsewhere."""

import sys
from pathlib import Path

import jupyter_server_mathjax

project = "Reprise"
html_title = "Reprise"
author = "the Reprise authors"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `shared`, and the extension beside this file
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "gallery.docstrings"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = [
    str(Path(__file__).parent / "static"),
    str(Path(jupyter_server_mathjax.__file__).parent / "static"),  # MathJax 2.7 with its fonts
]
html_css_files = ["gallery.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it fetches the pages found, which browsers refuse on file://
html_show_sphinx = False
html_show_copyright = False

nb_execution_mode = "off"  # pages show the outputs that the notebooks are stored with
nb_output_stderr = "remove"
nb_merge_streams = True
nb_ipywidgets_js = {}  # their default comes from a network

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False
mathjax_path = "MathJax.js"
mathjax2_config = {
    "config": ["TeX-AMS-MML_HTMLorMML-full.js"],
    "jax": ["input/TeX", "output/HTML-CSS"],
    "menuSettings": {"assistiveMML": False, "inTabOrder": False},
    "CHTML-preview": {"disabled": True},
    "fast-preview": {"disabled": True},
    "showMathMenu": False,
    "messageStyle": "none",
    "tex2jax": {"ignoreClass": "document", "processClass": "math"},
    "HTML-CSS": {
        "availableFonts": [],
        "preferredFont": None,
        "imageFont": None,
        "webFont": "STIX-Web",
        "styles": {"@font-face": {"font-family": "MathJax_Blank", "src": "local('serif')"}},  # else a failing request
        "linebreaks": {"automatic": True},
    },
}
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "ref.python"]  # of a name in several classes the first

default_role = "py:obj"  # single backticks in docstrings: a link where the name is known, else code
autosummary_generate = False
autodoc_mock_imports = ["flwr", "opacus"]  # optional, and not in the environment that builds the site
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

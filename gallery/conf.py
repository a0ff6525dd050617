"""Sphinx settings of the gallery. What its pages load lies in the built site: nothing comes from elsewhere."""

from pathlib import Path

import jupyter_server_mathjax

project = "Reprise"
html_title = "Reprise"
author = "the Reprise authors"
extensions = ["myst_nb", "sphinx_design"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = [
    str(Path(__file__).parent / "static"),
    str(Path(jupyter_server_mathjax.__file__).parent / "static"),  # MathJax 2.7 with its fonts
]
html_css_files = ["gallery.css"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
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
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

"""One visual language for every figure: style, colours, and the plots that several papers share.

>>> from shared.plots import bars, figure
>>> fig, (ax,) = figure(height=1.6)
>>> bars(ax, {"LRP": [0.8, 0.7], "random": [0.1, 0.2]}, null=["random"])
>>> [text.get_text() for text in ax.texts]
['0.75', '0.15']
"""

from shared.plots._curves import band, bars, curve
from shared.plots._graphs import stream_edges
from shared.plots._images import heatmap, overlay
from shared.plots._style import (
    COLORS,
    DIVERGING,
    GREYS,
    NULL,
    SEQUENTIAL,
    color,
    figure,
    label_panels,
    palette,
    use_style,
)
from shared.plots._tokens import save_token_heatmap, token_heatmap, token_heatmap_html

use_style()

__all__ = [
    "COLORS",
    "DIVERGING",
    "GREYS",
    "NULL",
    "SEQUENTIAL",
    "band",
    "bars",
    "color",
    "curve",
    "figure",
    "heatmap",
    "label_panels",
    "overlay",
    "palette",
    "save_token_heatmap",
    "stream_edges",
    "token_heatmap",
    "token_heatmap_html",
    "use_style",
]

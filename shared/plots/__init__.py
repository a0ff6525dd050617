"""One visual language for every figure: style, colours, and the plots that several papers share."""

from shared.plots._curves import band, bars, curve
from shared.plots._images import heatmap, image_grid, overlay
from shared.plots._style import COLORS, DIVERGING, NULL, SEQUENTIAL, color, figure, label_panels, palette, use_style
from shared.plots._tokens import token_heatmap

use_style()

__all__ = [
    "COLORS",
    "DIVERGING",
    "NULL",
    "SEQUENTIAL",
    "band",
    "bars",
    "color",
    "curve",
    "figure",
    "heatmap",
    "image_grid",
    "label_panels",
    "overlay",
    "palette",
    "token_heatmap",
    "use_style",
]

"""Conditions of `shared.plots`' functions."""

WITHOUT = {
    **dict.fromkeys(("bars", "color", "figure", "label_panels", "palette", "use_style"), "takes labels and numbers"),
    "save_token_heatmap": "writes what token_heatmap_html gives",
}

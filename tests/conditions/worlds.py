"""Conditions of `shared.worlds`' functions."""

WITHOUT = dict.fromkeys(
    (
        "agreement_sentences",
        "casualise",
        "circle_points",
        "fact_prompts",
        "first_gender",
        "linzen_rows",
        "mark_mask",
        "plant_class_patterns",
        "plant_clauses",
        "plant_conjunctions",
        "read_agreement",
        "shape_captions",
        "shapes_world",
        "smiley_points",
        "sphere_points",
        "swap_pronouns",
        "two_view_clusters",
        "uniform_clusters",
    ),
    "takes sizes, text and a generator; no data",
)

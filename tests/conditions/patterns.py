"""Conditions of `shared.patterns`' functions."""

SCALES = {"nearest_items": {"vectors": 0}}
STEP = "a layer or a term of DiffNaps' network, run in each step; DiffNaps.fit checks the rows"
WITHOUT = {
    **dict.fromkeys(("binary_linear", "binary_linear_transposed", "diffnaps_gradients", "diffnaps_loss"), STEP),
    **dict.fromkeys(("gated_step", "length_penalty", "logical_or", "w_shaped_penalty", "weighted_xor"), STEP),
    **dict.fromkeys(("code_length", "code_length_change", "log_odds", "trap_violations"), "patterns"),
    **dict.fromkeys(("clause_accuracy", "exact_hits", "frequent_itemsets", "jaccard", "matching_prf"), "patterns"),
    **dict.fromkeys(("significant_itemsets", "soft_f1", "soft_f1_by_class", "subgroups", "tree_paths"), "patterns"),
    **dict.fromkeys(("draw_patterns", "pattern_text", "tokenize_words"), "text and numbers"),
}

"""Conditions of `shared.zoo`: none of its functions computes with arrays."""

WITHOUT = dict.fromkeys(
    (
        "available_data",
        "available_models",
        "clone_folder",
        "describe",
        "dictionary_folder",
        "embed_texts",
        "fetch",
        "generate_texts",
        "hub_folder",
        "load_data",
        "load_model",
        "load_pipeline",
    ),
    "files and hubs; tests/zoo",
)

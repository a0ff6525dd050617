"""How what the repository ships was made: `python -m shared.zoo make [names…]`, deterministic, on one core."""

from collections.abc import Callable

from shared.zoo.recipes._classifiers import CLASSIFIERS
from shared.zoo.recipes._clip import make_clip
from shared.zoo.recipes._clip_patches import make_clip_patches
from shared.zoo.recipes._clip_saes import make_clip_saes
from shared.zoo.recipes._decoder import make_autoencoder
from shared.zoo.recipes._diffusion import make_diffusion
from shared.zoo.recipes._factors import make_factors
from shared.zoo.recipes._fashion_subset import make_fashion_subset
from shared.zoo.recipes._generations import make_generations
from shared.zoo.recipes._pbmc68k_reduced import make_pbmc68k_reduced
from shared.zoo.recipes._sentences import make_sentences
from shared.zoo.recipes._snippets import make_snippet_vectors, make_snippets
from shared.zoo.recipes._textiles import make_textiles

RECIPES: dict[str, Callable[[], None]] = {
    "fashion-mnist": make_fashion_subset,
    "smollm2-outputs": make_generations,
    "concept-sentences": make_sentences,
    "snippets": make_snippets,
    "snippets-minilm": make_snippet_vectors,
    "pbmc68k_reduced": make_pbmc68k_reduced,
    "textiles": make_textiles,
    **{recipe.name: recipe for recipe in CLASSIFIERS},
    "autoencoder-shapes": make_autoencoder,
    "clip-shapes": make_clip,  # starts from a classifier
    "factors-shapes": make_factors,
    "diffusion-shapes": make_diffusion,  # its captions are read by clip-shapes; factors-shapes judges it
    "clip-shapes-saes": make_clip_saes,
    "clip-shapes-patches": make_clip_patches,
}

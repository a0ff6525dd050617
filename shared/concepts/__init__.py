"""Concepts of a sparse dictionary: which fire together, what to call them, what they add to a decision.

One pass over codes fills a `Cooccurrence`; its `relations()` say which concept implies which, its `top_patches()` show
a concept at its strongest. `concept_vectors` and `name_concepts` find the words; `split_scores` and
`probe_contributions` take a segmentation or a linear probe apart, exactly.
"""

from shared.concepts._contributions import (
    ScoreSplit,
    class_scores,
    max_pool,
    probe_contributions,
    segment,
    split_scores,
)
from shared.concepts._hierarchy import Edge, Hierarchy, by_chance, components, hierarchy, parents
from shared.concepts._naming import METHODS, NAMELESS, Names, Vocabulary, concept_vectors, name_concepts
from shared.concepts._relations import Cooccurrence, Relations
from shared.concepts._top import TopPatches

__all__ = [
    "METHODS",
    "NAMELESS",
    "Cooccurrence",
    "Edge",
    "Hierarchy",
    "Names",
    "Relations",
    "ScoreSplit",
    "TopPatches",
    "Vocabulary",
    "by_chance",
    "class_scores",
    "components",
    "concept_vectors",
    "hierarchy",
    "max_pool",
    "name_concepts",
    "parents",
    "probe_contributions",
    "segment",
    "split_scores",
]

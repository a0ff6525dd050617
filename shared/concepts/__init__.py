"""Concepts of a sparse dictionary: which fire together, what to call them, what they add to a decision.

>>> import torch
>>> from shared.concepts import Cooccurrence, hierarchy
>>> codes = torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # patches, concepts
>>> relations = Cooccurrence(3).update(codes).relations()
>>> [[round(value, 2) for value in row] for row in relations.conditional().tolist()]
[[1.0, 0.67, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
>>> hierarchy(relations, min_lift=1.2).edges
(Edge(child=1, parent=0, strength=1.0, lift=1.33...),)

One pass over codes fills a `Cooccurrence`; its `relations()` say which concept implies which, its `top_patches()` show
a concept at its strongest. `concept_vectors` and `name_concepts` find the words; `split_scores` and
`probe_contributions` take a segmentation or a linear probe apart, exactly. `trace_concepts` and `trace_inputs` do so
with a B-cos network's decision, `concept_consistency` judges concepts by another network's features.
`ClassPrototypes` says how a class uses concepts of any kind, and how unusual one prediction is. `PairedMoments` of two
models' representations of the same inputs give the linear maps that carry concepts from one to the other.
A `ConceptBottleneck` is made of text vectors alone, a `ComponentIndex` finds components by text.
`clarity`, `responsiveness_purity` and `faithfulness` score what somebody wrote of a feature, by a `Judge`.
"""

from shared.concepts._alignment import LinearMap, PairedMoments, semantic_lens_map
from shared.concepts._bottleneck import ComponentIndex, ConceptBottleneck, filter_concepts
from shared.concepts._contributions import (
    ScoreSplit,
    class_scores,
    max_pool,
    probe_contributions,
    segment_by_text,
    split_scores,
)
from shared.concepts._descriptions import (
    Separation,
    clarity,
    describe_by_tfidf,
    faithfulness,
    responsiveness_purity,
    sample_by_activation,
    separation,
)
from shared.concepts._hierarchy import (
    Edge,
    Hierarchy,
    hierarchy,
    implication_components,
    implications,
    parents_by_chance,
)
from shared.concepts._judges import ChatJudge, Judge, JudgeError, LexiconJudge, rated, ratings_by_similarity
from shared.concepts._naming import NAMELESS, NAMING_METHODS, Names, Vocabulary, concept_vectors, name_concepts
from shared.concepts._prototypes import ClassPrototypes, gini, prototype_stability
from shared.concepts._relations import Cooccurrence, Relations
from shared.concepts._top import TopPatches
from shared.concepts._traces import (
    ConceptTrace,
    concept_consistency,
    pooled_features,
    trace_concepts,
    trace_inputs,
)

__all__ = [
    "NAMELESS",
    "NAMING_METHODS",
    "ChatJudge",
    "ClassPrototypes",
    "ComponentIndex",
    "ConceptBottleneck",
    "ConceptTrace",
    "Cooccurrence",
    "Edge",
    "Hierarchy",
    "Judge",
    "JudgeError",
    "LexiconJudge",
    "LinearMap",
    "Names",
    "PairedMoments",
    "Relations",
    "ScoreSplit",
    "Separation",
    "TopPatches",
    "Vocabulary",
    "clarity",
    "class_scores",
    "concept_consistency",
    "concept_vectors",
    "describe_by_tfidf",
    "faithfulness",
    "filter_concepts",
    "gini",
    "hierarchy",
    "implication_components",
    "implications",
    "max_pool",
    "name_concepts",
    "parents_by_chance",
    "pooled_features",
    "probe_contributions",
    "prototype_stability",
    "rated",
    "ratings_by_similarity",
    "responsiveness_purity",
    "sample_by_activation",
    "segment_by_text",
    "semantic_lens_map",
    "separation",
    "split_scores",
    "trace_concepts",
    "trace_inputs",
]

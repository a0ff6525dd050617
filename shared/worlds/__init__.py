"""Worlds whose truth is known: what a method should find was put there.

>>> world = shapes_world(100, generator=0, shortcut=("watermark", "star", 1.0))  # a cue that goes with a class
>>> bool((world.factors["watermark"] > 0)[world.concept("shape", "star")].all())
True
>>> import numpy as np
>>> table = plant_conjunctions(generator=np.random.default_rng(0), n_rows=500, n_items=100)
>>> table.X.shape, len(table.patterns), table.directions[:2]
((500, 100), 10, [0, 1])
>>> swap_pronouns("He said his dog saw him.")
('She said her dog saw her.', [('He', 'She'), ('his', 'her'), ('him', 'her')])
"""

from shared.worlds._brains import BRAIN_REGIONS, BrainCohort, brain_cohort
from shared.worlds._clusters import (
    circle_points,
    gaussian_clusters,
    lift_dimensions,
    smiley_points,
    sphere_points,
    two_view_clusters,
    uniform_clusters,
)
from shared.worlds._flaws import (
    FLAWS,
    FlawedData,
    add_foreign,
    add_mark,
    flip_labels,
    group_labels,
    mark_mask,
    plant_flaw,
)
from shared.worlds._regulation import RegulationWorld, hill, permute_prior, regulation_world, relocate_edges
from shared.worlds.chess._board import (
    GamePuzzle,
    IllegalPosition,
    encode_planes,
    ending_board,
    legal_indices,
    move_index,
    read_position,
    read_puzzles,
)
from shared.worlds.chess._endings import Ending, solve_ending
from shared.worlds.chess._moves import (
    Puzzle,
    best_moves,
    ending_tokens,
    is_held_out,
    mate_puzzles,
    move_effects,
    move_values,
    sample_positions,
)
from shared.worlds.chess._sets import play_ending, position_arrays, puzzle_arrays
from shared.worlds.shapes._captions import shape_captions
from shared.worlds.shapes._concepts import IMAGE_CONCEPTS, concept_images
from shared.worlds.shapes._factors import (
    BACKGROUNDS,
    BASIC_SHAPES,
    COLOURS,
    CORNERS,
    SHADES,
    SHAPE_FACTORS,
    SHAPES,
    SIZES,
    TEXTURES,
    TINTS,
)
from shared.worlds.shapes._scenes import SCENE_SHAPES, shape_scenes
from shared.worlds.shapes._words import place_words
from shared.worlds.shapes._world import ShapesWorld, shapes_world
from shared.worlds.tables._classes import PlantedClasses, plant_class_patterns
from shared.worlds.tables._planted import PlantedTable, plant_clauses, plant_conjunctions
from shared.worlds.text._agreement import (
    AGREEMENT_KINDS,
    AgreementSentence,
    agreement_sentences,
    linzen_rows,
    read_agreement,
)
from shared.worlds.text._edits import casualise, first_gender, swap_pronouns
from shared.worlds.text._facts import FactPrompt, fact_prompts
from shared.worlds.text._instructions import (
    COLOUR_WORDS,
    INSTRUCTIONS,
    InstructionPrompt,
    InstructionWorld,
    follows_instruction,
    instruction_prompts,
    instruction_texts,
    instruction_world,
)
from shared.worlds.text._leads import (
    EDIT_KINDS,
    NATIONALITIES,
    LeadChoice,
    LeadEdit,
    lead_choices,
    lead_edits,
    lead_sentences,
)
from shared.worlds.text._liar import LIAR_TOLD, LiarText, LiarWorld, liar_texts, liar_world
from shared.worlds.text._pages import (
    NoTextError,
    TextPage,
    align_words,
    long_s,
    print_page,
    set_page,
    word_spans,
)
from shared.worlds.text._personas import (
    PERSONA_KINDS,
    Demonstration,
    FactStatement,
    PersonaPair,
    demonstrations,
    fact_statements,
    persona_pairs,
)
from shared.worlds.text._recall import (
    RECALL_SOURCES,
    RELATIONS,
    RecallItem,
    RecallWorld,
    recall_items,
    recall_texts,
    recall_world,
    values_of,
)
from shared.worlds.text._sentences import TEXT_CONCEPTS, concept_sentences
from shared.worlds.text._seplang import SEP_PLACES, SEP_PROBES, SEP_SIDES, SEP_VOCABULARY, SepItem, sep_items

__all__ = [
    "AGREEMENT_KINDS",
    "BACKGROUNDS",
    "BASIC_SHAPES",
    "BRAIN_REGIONS",
    "COLOURS",
    "COLOUR_WORDS",
    "CORNERS",
    "EDIT_KINDS",
    "FLAWS",
    "IMAGE_CONCEPTS",
    "INSTRUCTIONS",
    "LIAR_TOLD",
    "NATIONALITIES",
    "PERSONA_KINDS",
    "RECALL_SOURCES",
    "RELATIONS",
    "SCENE_SHAPES",
    "SEP_PLACES",
    "SEP_PROBES",
    "SEP_SIDES",
    "SEP_VOCABULARY",
    "SHADES",
    "SHAPES",
    "SHAPE_FACTORS",
    "SIZES",
    "TEXTURES",
    "TEXT_CONCEPTS",
    "TINTS",
    "AgreementSentence",
    "BrainCohort",
    "Demonstration",
    "Ending",
    "FactPrompt",
    "FactStatement",
    "FlawedData",
    "GamePuzzle",
    "IllegalPosition",
    "InstructionPrompt",
    "InstructionWorld",
    "LeadChoice",
    "LeadEdit",
    "LiarText",
    "LiarWorld",
    "NoTextError",
    "PersonaPair",
    "PlantedClasses",
    "PlantedTable",
    "Puzzle",
    "RecallItem",
    "RecallWorld",
    "RegulationWorld",
    "SepItem",
    "ShapesWorld",
    "TextPage",
    "add_foreign",
    "add_mark",
    "agreement_sentences",
    "align_words",
    "best_moves",
    "brain_cohort",
    "casualise",
    "circle_points",
    "concept_images",
    "concept_sentences",
    "demonstrations",
    "encode_planes",
    "ending_board",
    "ending_tokens",
    "fact_prompts",
    "fact_statements",
    "first_gender",
    "flip_labels",
    "follows_instruction",
    "gaussian_clusters",
    "group_labels",
    "hill",
    "instruction_prompts",
    "instruction_texts",
    "instruction_world",
    "is_held_out",
    "lead_choices",
    "lead_edits",
    "lead_sentences",
    "legal_indices",
    "liar_texts",
    "liar_world",
    "lift_dimensions",
    "linzen_rows",
    "long_s",
    "mark_mask",
    "mate_puzzles",
    "move_effects",
    "move_index",
    "move_values",
    "permute_prior",
    "persona_pairs",
    "place_words",
    "plant_class_patterns",
    "plant_clauses",
    "plant_conjunctions",
    "plant_flaw",
    "play_ending",
    "position_arrays",
    "print_page",
    "puzzle_arrays",
    "read_agreement",
    "read_position",
    "read_puzzles",
    "recall_items",
    "recall_texts",
    "recall_world",
    "regulation_world",
    "relocate_edges",
    "sample_positions",
    "sep_items",
    "set_page",
    "shape_captions",
    "shape_scenes",
    "shapes_world",
    "smiley_points",
    "solve_ending",
    "sphere_points",
    "swap_pronouns",
    "two_view_clusters",
    "uniform_clusters",
    "values_of",
    "word_spans",
]

"""Language models: texts with a known reason for the next word.

sentences = agreement_sentences(200, rng=rng)          # "The keys near the cabinet" -> "are", not "is"
for batch in agreement_batches(tokenizer, sentences):  # one batch per length; .truth: the subject's tokens
    attribute(model, batch.ids, contrast(batch.right, batch.wrong), position=batch.position)
"""

from shared.lm._agreement import (
    AGREEMENT_KINDS,
    AgreementBatch,
    AgreementSentence,
    agreement_batches,
    agreement_sentences,
    read_agreement,
    single_token,
)
from shared.lm._concepts import TEXT_CONCEPTS, concept_sentences, mean_states

__all__ = [
    "AGREEMENT_KINDS",
    "TEXT_CONCEPTS",
    "AgreementBatch",
    "AgreementSentence",
    "agreement_batches",
    "agreement_sentences",
    "concept_sentences",
    "mean_states",
    "read_agreement",
    "single_token",
]

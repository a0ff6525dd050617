"""Language models: sentences with a known reason for the next word as batches, the token that a text starts with,
hidden states of texts, peaks of single units over texts, texts written under edits, what every layer would answer
(logit lens, tuned lens), attention edited by kind of token,
decoding guided by attribution or by contrast with layers (DoLa) and damaged twins, tokens told apart as instructions
and data (ASIDE), what single activations and heads are worth (patched, ablated, or as what they write into a logit).
What every head contributes, in one backward pass and in batches, is `shared.lrp.head_relevance`.

>>> from tokenizers import Tokenizer, models, pre_tokenizers
>>> from transformers import PreTrainedTokenizerFast
>>> from shared.worlds import AgreementSentence
>>> words = {word: i for i, word in enumerate("? The keys near the cabinet is are".split())}
>>> by_word = Tokenizer(models.WordLevel(words, unk_token="?"))
>>> by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
>>> sentence = AgreementSentence("The keys near the cabinet", subject=(4, 8), verb="are", foil="is")
>>> (batch,) = agreement_batches(PreTrainedTokenizerFast(tokenizer_object=by_word), [sentence], start="?")
>>> batch.truth.int().tolist(), batch.right.tolist(), batch.wrong.tolist()
([[0, 0, 1, 0, 0, 0]], [7], [6])
"""

from shared.lm._agreement import AgreementBatch, agreement_batches, single_token
from shared.lm._answers import AnswerStates, answer_states, chat_prompt
from shared.lm._continue import continue_texts
from shared.lm._contrast import TwinContrast, contrast, contrast_logits
from shared.lm._direct import LogitAttribution, direct_logit_attribution
from shared.lm._dola import LayerContrast, dola, dola_logits
from shared.lm._edits import AttentionEdit, AttentionNotAvailable, attention_maps, edit_attention
from shared.lm._grids import PatchingGrid, head_ablation, head_groups, head_means, logit_difference, patching_grid
from shared.lm._guided import Guidance, GuidedStep, guide, guided_choice, roi_relevance
from shared.lm._lens import ResidualStack, Translators, logit_lens, residual_stack, residual_states, tuned_lens
from shared.lm._peaks import Site, peak_activations
from shared.lm._region import PromptBatch, Roi, prompt_batch
from shared.lm._roles import ROLE_MODES, ROLES, RoleEmbedding, assign_roles, role_embeds, role_tokens, turn_pairs
from shared.lm._start import start_token, token_ids
from shared.lm._states import mean_states, pooled_states
from shared.lm._types import TYPES, matched_keys, token_types

__all__ = [
    "ROLES",
    "ROLE_MODES",
    "TYPES",
    "AgreementBatch",
    "AnswerStates",
    "AttentionEdit",
    "AttentionNotAvailable",
    "Guidance",
    "GuidedStep",
    "LayerContrast",
    "LogitAttribution",
    "PatchingGrid",
    "PromptBatch",
    "ResidualStack",
    "Roi",
    "RoleEmbedding",
    "Site",
    "Translators",
    "TwinContrast",
    "agreement_batches",
    "answer_states",
    "assign_roles",
    "attention_maps",
    "chat_prompt",
    "continue_texts",
    "contrast",
    "contrast_logits",
    "direct_logit_attribution",
    "dola",
    "dola_logits",
    "edit_attention",
    "guide",
    "guided_choice",
    "head_ablation",
    "head_groups",
    "head_means",
    "logit_difference",
    "logit_lens",
    "matched_keys",
    "mean_states",
    "patching_grid",
    "peak_activations",
    "pooled_states",
    "prompt_batch",
    "residual_stack",
    "residual_states",
    "roi_relevance",
    "role_embeds",
    "role_tokens",
    "single_token",
    "start_token",
    "token_ids",
    "token_types",
    "tuned_lens",
    "turn_pairs",
]

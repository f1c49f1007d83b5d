"""What the gateway knows and says about a model that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationDefaults:
    """The values that absent sampling parameters take; top_k 0 means all tokens."""

    temperature: float
    top_p: float
    top_k: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What requests may ask for; `fields` are paths of GenerateRequest."""

    fields: Sequence[str]
    max_outputs: int
    max_top_logprobs: int
    max_logit_bias_tokens: int
    max_bad_words: int
    max_bad_word_bytes: int
    max_allowed_token_ids: int
    max_no_repeat_ngram: int
    max_stop_texts: int
    max_stop_text_bytes: int
    max_stop_token_ids: int
    max_stop_token_sequences: int
    max_stop_sequence_tokens: int
    max_prompt_bytes: int
    max_session_requests: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """One model. `created_at_s` is in seconds since 1970: since when this gateway knows it."""

    name: str
    created_at_s: int
    max_context_tokens: int
    vocabulary_size: int
    eos_token_ids: Sequence[int]
    tokenizer_fingerprint: str
    checkpoint_fingerprint: str
    has_chat_template: bool
    defaults: GenerationDefaults
    capabilities: Capabilities
    ready: bool

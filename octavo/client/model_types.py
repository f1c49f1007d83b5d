"""What a server says about its models, and about text as tokens."""

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
    """What requests may ask for: paths of GenerateRequest, such as `sampling.top_p`, and limits."""

    fields: Sequence[str]
    max_outputs: int
    max_top_logprobs: int
    max_stop_texts: int
    max_stop_text_bytes: int
    max_stop_token_ids: int
    max_prompt_bytes: int
    max_session_requests: int
    max_logit_bias_tokens: int
    max_bad_words: int
    max_bad_word_bytes: int
    max_stop_token_sequences: int
    max_stop_sequence_tokens: int
    max_allowed_token_ids: int
    max_no_repeat_ngram: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One model. `created_at_s` counts seconds since 1970; `chat` says whether `messages` may be
    given; `ready` whether a worker group serves it now.
    """

    name: str
    created_at_s: int
    max_context_tokens: int
    vocabulary_size: int
    eos_token_ids: Sequence[int]
    tokenizer_fingerprint: str
    checkpoint_fingerprint: str
    chat: bool
    ready: bool
    defaults: GenerationDefaults
    capabilities: Capabilities


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenization:
    """A text as token ids. `token_bytes` has the bytes of each where asked for; `rendered_text` is
    what the chat template made of a conversation.
    """

    token_ids: Sequence[int]
    token_bytes: Sequence[bytes]
    rendered_text: str
    max_context_tokens: int

"""The fields that /v1/chat/completions and /v1/completions share, and what they become.

What the core does not do yet is passed on where only the core is concerned: it refuses by name and
accepts one day. What would change the answers that are written here is in UNSUPPORTED.
"""

from __future__ import annotations

import abc
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.accepted_fields import MAX_STOP_TEXT_BYTES
from gateway.field_checks import MAX_UINT32
from gateway.openai.body import Body, Neutral, StrictModel
from gateway.openai.errors import invalid
from gateway.request import OutputOptions, Sampling, Stopping

_MAX_STOP_TEXTS = 4  # OpenAI's own limit


def _texts(value: Any) -> Any:
    """One stop text is a list of one."""
    return [value] if isinstance(value, str) else value


def _without_empty(texts: list[str]) -> list[str]:
    """An empty stop text is none."""
    return [text for text in texts if text]


# Lists stop at their first wrong item: a million complaints would cost more than the request.
Integers = Annotated[list[int], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True)]
_OneOrMoreTexts = (
    Annotated[str, Field(max_length=MAX_STOP_TEXT_BYTES)]
    | Annotated[
        list[Annotated[str, Field(max_length=MAX_STOP_TEXT_BYTES)]],
        Field(max_length=_MAX_STOP_TEXTS),
    ]
)
StopTexts = Annotated[
    Texts,
    Field(max_length=_MAX_STOP_TEXTS),
    AfterValidator(_without_empty),
    BeforeValidator(_texts, json_schema_input_type=_OneOrMoreTexts),
]
# The core knows no -1, which vLLM's clients write for all.
TopK = Annotated[int, Field(ge=-1, le=MAX_UINT32)]
_DECIMAL_ID = r"(0|[1-9][0-9]{0,9})"

UNSUPPORTED: Neutral = {
    "prompt_logprobs": (),
    "use_beam_search": (False,),
    "num_beams": (1,),
    "logits_processors": ([],),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
}


class StreamOptions(StrictModel):
    """How to stream."""

    include_usage: bool = False
    """Whether a stream ends with a chunk that counts tokens."""


class GenerationBody(Body, abc.ABC):
    """What both bodies hold. Ranges are the core's to check, for both doors alike."""

    model: str | None = None
    """The model's name; absent: the only one served."""
    stream: bool = False
    """Whether the answer comes as server-sent events."""
    stream_options: StreamOptions = StreamOptions()
    """How to stream."""

    temperature: float | None = None
    """Divides the logits; 0 is greedy."""
    top_p: float | None = None
    """Keeps the likeliest tokens whose probabilities reach this sum."""
    top_k: TopK | None = None
    """Keeps this many tokens; 0 and -1 keep all."""
    min_p: float | None = None
    """Keeps tokens at least this likely relative to the likeliest."""
    frequency_penalty: float | None = None
    """Lowers a logit by this much for each time that its token was generated."""
    presence_penalty: float | None = None
    """Lowers a logit once its token was generated."""
    repetition_penalty: float | None = None
    """Divides positive and multiplies negative logits of tokens seen so far; 1 changes nothing."""
    no_repeat_ngram: int | None = None
    """Forbids any run of this many tokens from appearing twice; 0 is off."""
    logit_bias: dict[str, float] = Field(
        default_factory=dict,
        json_schema_extra={"propertyNames": {"pattern": f"^{_DECIMAL_ID}$"}},
    )
    """Adds to the logits of these token ids."""
    bad_words: Texts = Field(default_factory=list)
    """Texts that must not appear, as far as the model spells them as the tokenizer does."""
    allowed_token_ids: Integers = Field(default_factory=list)
    """The only token ids that may be generated; empty: all."""
    forced_token_ids: Integers = Field(default_factory=list)
    """Ids that every output begins with; they count as generated."""
    seed: int | None = None
    """Seeds the draws; absent: drawn anew."""
    n: int | None = None
    """How many outputs to make of each prompt; absent: 1."""

    max_tokens: int | None = None
    """How many tokens an output may have; absent: the rest of the context."""
    min_tokens: int | None = None
    """How many tokens come before an output may stop."""
    stop: StopTexts = Field(default_factory=list)
    """Texts that end an output and are not part of it."""
    stop_token_ids: Integers = Field(default_factory=list)
    """Token ids that end an output, besides the model's own."""
    stop_token_sequences: Annotated[list[Integers], Field(fail_fast=True)] = Field(
        default_factory=list
    )
    """Sequences of token ids that end an output."""
    ignore_eos: bool | None = None
    """Whether the model's own end-of-sequence ids are ignored."""
    include_stop_str_in_output: bool | None = None
    """Whether the stop that matched is part of the output."""
    time_limit_ms: int | None = None
    """Milliseconds from arrival to the last token; the text so far is then the answer."""

    priority: int | None = None
    """Higher goes first where the worker has to choose."""
    cache_salt: str | None = None
    """Prompts share cached blocks with others of the same salt only."""

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options.include_usage

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer carries log probabilities."""
        return self.output().logprobs is True

    @abc.abstractmethod
    def output(self) -> OutputOptions:
        """What is sent back."""

    def sampling(self) -> Sampling:
        """How the next token is drawn; neutral values are absent."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0 if self.top_k == -1 else self.top_k,
            min_p=self.min_p or None,
            frequency_penalty=self.frequency_penalty or None,
            presence_penalty=self.presence_penalty or None,
            repetition_penalty=None if self.repetition_penalty == 1 else self.repetition_penalty,
            logit_bias=_by_token_id(self.logit_bias),
            bad_words=self.bad_words,
            no_repeat_ngram=self.no_repeat_ngram or None,
            allowed_token_ids=self.allowed_token_ids,
            forced_token_ids=self.forced_token_ids,
            seed=self.seed,
            n=self.n,
        )

    def stopping(self, max_tokens: int | None) -> Stopping:
        """When generation ends."""
        return Stopping(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens or None,
            stop=self.stop,
            stop_token_ids=self.stop_token_ids,
            stop_token_sequences=self.stop_token_sequences,
            ignore_eos=self.ignore_eos,
            include_stop=self.include_stop_str_in_output,
            time_limit_ms=self.time_limit_ms,
        )


def _by_token_id(logit_bias: dict[str, float]) -> dict[int, float]:
    """JSON's keys are strings; these are token ids in decimal digits."""
    for key, bias in logit_bias.items():
        if not re.fullmatch(_DECIMAL_ID, key):
            raise invalid(
                f"logit_bias[{key[:60]}]",
                bias,
                "a number whose key is a token id in decimal digits",
            )
    return {int(key): bias for key, bias in logit_bias.items()}

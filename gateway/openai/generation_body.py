"""The fields that /v1/chat/completions and /v1/completions share, and what they become.

What the core does not do yet is passed on where only the core is concerned: it refuses by name and
accepts one day. What would change the answers that are written here is in UNSUPPORTED.
"""

from __future__ import annotations

import abc
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.openai.body import Body, Neutral, StrictModel
from gateway.openai.errors import invalid
from gateway.request import OutputOptions, Sampling, Stopping

_MAX_STOP_TEXTS = 4  # OpenAI's own limit


def _texts(value: Any) -> Any:
    """One stop text is a list of one; "" is none."""
    if isinstance(value, str):
        return [value] if value else []
    return value


# Lists stop at their first wrong item: a million complaints would cost more than the request.
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Integers = Annotated[list[Integer], Field(fail_fast=True)]
StopTexts = Annotated[
    list[str], Field(fail_fast=True), Field(max_length=_MAX_STOP_TEXTS), BeforeValidator(_texts)
]

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


class GenerationBody(Body, abc.ABC):
    """What both bodies hold. Ranges are the core's to check, for both doors alike."""

    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    temperature: float | None = None
    top_p: float | None = None
    top_k: Integer | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram: Integer | None = None
    logit_bias: dict[str, float] = Field(default_factory=dict)
    bad_words: Annotated[list[str], Field(fail_fast=True)] = Field(default_factory=list)
    allowed_token_ids: Integers = Field(default_factory=list)
    forced_token_ids: Integers = Field(default_factory=list)
    seed: Integer | None = None
    n: Integer | None = None

    max_tokens: Integer | None = None
    min_tokens: Integer | None = None
    stop: StopTexts = Field(default_factory=list)
    stop_token_ids: Integers = Field(default_factory=list)
    stop_token_sequences: Annotated[list[Integers], Field(fail_fast=True)] = Field(
        default_factory=list
    )
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    time_limit_ms: Integer | None = None

    priority: Integer | None = None
    cache_salt: str | None = None

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
            top_k=0 if self.top_k == -1 else self.top_k,  # vLLM's clients write -1 for all
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
        if not (key.isascii() and key.isdigit() and len(key) <= 10):
            raise invalid(f"logit_bias[{key[:60]}]", bias, "under a token id")
    return {int(key): bias for key, bias in logit_bias.items()}

"""The body of /v1/completions, and the requests that it becomes: one for each prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

from pydantic import Discriminator, Field, Tag

from gateway.accepted_fields import MAX_OUTPUTS
from gateway.field_checks import MAX_PROMPT_TOKENS, MAX_UINT32
from gateway.openai.body import Neutral
from gateway.openai.errors import ApiError, invalid, unsupported
from gateway.openai.generation_body import UNSUPPORTED, GenerationBody
from gateway.openai.limits import MAX_PROMPTS, HttpLimits
from gateway.request import GenerationRequest, OutputOptions
from octavo.errors import InWords

_SINGLE = ("<text>", "<ids>")
# `logprobs` is a number here: of the likeliest tokens.
_RENAMED = {"output.top_logprobs": "logprobs", "output.prompt_logprobs": "logprobs"}

# The core knows the vocabulary.
TokenId = Annotated[int, Field(json_schema_extra={"minimum": 0, "maximum": MAX_UINT32})]


def _kind_of_prompt(value: Any) -> str:
    """Which of the four forms a prompt has; the first item tells, so that errors name the rest."""
    if not isinstance(value, list):
        return "<text>"
    first = value[0] if value else ""
    if isinstance(first, str):
        return "<texts>"
    return "<lists>" if isinstance(first, list) else "<ids>"


_Ids = Annotated[
    list[TokenId],
    Field(fail_fast=True, json_schema_extra={"minItems": 1, "maxItems": MAX_PROMPT_TOKENS}),
]
_Several = Field(fail_fast=True, json_schema_extra={"minItems": 1, "maxItems": MAX_PROMPTS})
Prompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], _Several, Tag("<texts>")]
    | Annotated[_Ids, Tag("<ids>")]
    | Annotated[list[_Ids], _Several, Tag("<lists>")],
    Discriminator(_kind_of_prompt),
]


class CompletionBody(GenerationBody):
    """A text to go on with, or several."""

    unsupported: ClassVar[Neutral] = {
        **UNSUPPORTED,
        "suffix": ("",),
        "prompt_embeds": (),
        "response_format": ({"type": "text"},),
    }

    limited_as: ClassVar[Mapping[str, str]] = {"logprobs": "output.top_logprobs"}

    prompt: Prompt
    """A text, token ids, or a list of either."""
    echo: bool = False
    """Whether each output begins with its prompt."""
    logprobs: int | None = None
    """Sends log probabilities, with this many of the likeliest tokens at each position."""
    best_of: Annotated[int, Field(ge=1, le=MAX_OUTPUTS)] | None = None
    """1 or n: outputs are not ranked."""

    def to_requests(
        self, *, request_id: str, arrived_at: float, limits: HttpLimits
    ) -> list[GenerationRequest]:
        """A request for each prompt; each of several has its own id, for the core and its logs."""
        if self.best_of not in (None, 1, self.n):
            raise unsupported("best_of")
        prompts = self._prompts()
        if not 1 <= len(prompts) <= limits.max_prompts:
            raise invalid("prompt", prompts, f"1 to {limits.max_prompts} prompts, or token ids")
        if len(prompts) == 1:
            return [self._request(prompts[0], request_id, arrived_at)]
        self._check_num_outputs(len(prompts), limits.max_outputs)
        if len(request_id) > 120:
            limit = "at most 120 characters with several prompts"
            raise ApiError(400, f"x-request-id must be {limit}.", param="x-request-id")
        return [
            self._request(prompt, f"{request_id}-{index}", arrived_at)
            for index, prompt in enumerate(prompts)
        ]

    @property
    def field_names(self) -> list[dict[str, str]]:
        """How errors call each of the prompts: prompt, or prompt[2] of several."""
        names = ["prompt"]
        if _kind_of_prompt(self.prompt) not in _SINGLE:
            names = [f"prompt[{index}]" for index in range(len(self.prompt))]
        return [{"prompt": name, "token_ids": name, **_RENAMED} for name in names]

    def output(self) -> OutputOptions:
        """Text, with log probabilities where asked for: of the prompt too where it is echoed."""
        wants_logprobs = self.logprobs is not None
        return OutputOptions(
            logprobs=wants_logprobs or None,
            top_logprobs=self.logprobs or None,
            prompt_logprobs=(wants_logprobs and self.echo) or None,
            echo=self.echo or None,
        )

    def _check_num_outputs(self, num_prompts: int, most: int) -> None:
        """All are open at once, so what is past the limit has no place on an idle server either."""
        n = self.n or 1
        if n <= MAX_OUTPUTS and num_prompts * n > most:  # an n past its own limit is the core's
            value = InWords(
                f"{num_prompts} prompts, which with n {n} make {num_prompts * n} outputs"
            )
            limit = f"such that prompts x n is at most {most}, the limit of open requests"
            raise invalid("prompt", value, limit)

    def _prompts(self) -> list[str | list[int]]:
        if _kind_of_prompt(self.prompt) in _SINGLE:
            return [cast("str | list[int]", self.prompt)]
        return cast("list[str | list[int]]", self.prompt)

    def _request(
        self, prompt: str | list[int], request_id: str, arrived_at: float
    ) -> GenerationRequest:
        return GenerationRequest(
            request_id=request_id,
            arrived_at=arrived_at,
            model=self.model,
            prompt=prompt if isinstance(prompt, str) else None,
            token_ids=None if isinstance(prompt, str) else prompt,
            sampling=self.sampling(),
            stopping=self.stopping(self.max_tokens),
            output=self.output(),
            priority=self.priority,
            cache_salt=self.cache_salt,
            sent_at_once=not self.stream,
        )

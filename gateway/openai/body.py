"""The one way from the bytes of a body to a checked object.

The parser refuses what JSON does not have (lone surrogates, duplicate keys, a byte order mark) and
nesting that would overflow a stack; the models are strict: "5" is no number and true is no 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jiter
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import ClientDisconnect, Request

from gateway.openai.errors import ApiError, invalid, unsupported
from gateway.openai.lone_surrogate import find_lone_surrogate
from gateway.openai.unknown_fields import UnknownFields

# Their keys are no names of fields: an error shows them as indexes.
_MAPPINGS = {"logit_bias"}

Neutral = Mapping[str, Sequence[object]]
Model = TypeVar("Model", bound="Body")


class StrictModel(BaseModel):
    """An object in a body: exact types, finite numbers, null as if it were not there."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        extra="ignore",
        use_attribute_docstrings=True,  # for /docs
    )

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, value: Any) -> Any:
        """Null equals absent, for every field."""
        if isinstance(value, dict):
            return {name: item for name, item in value.items() if item is not None}
        return value


class Body(StrictModel):
    """A whole body. Unknown fields are kept, so that they can be warned about.

    `unsupported` lists the fields that this server does not honour with the values of them that ask
    for nothing: these are accepted, others refused. `limited_as` has, for fields whose names do not
    tell, the core's field whose limits they have.
    """

    model_config = ConfigDict(extra="allow")

    unsupported: ClassVar[Neutral] = {}
    limited_as: ClassVar[Mapping[str, str]] = {}


class BodyReader:
    """Reads bodies for all routes."""

    def __init__(self) -> None:
        self._unknown_fields = UnknownFields()

    async def read(
        self, request: Request, model: type[Model], *, longest_list: int | None = None
    ) -> Model:
        """The body of `request`, checked; raises ApiError naming what is wrong. No list may be
        longer than `longest_list`: to look at its items would take long.
        """
        fields = _parse(await _read(request))
        _refuse_unsupported(fields, model.unsupported)
        _refuse_long_lists(fields, longest_list)
        try:
            body = model.model_validate(
                {name: value for name, value in fields.items() if name not in model.unsupported}
            )
        except ValidationError as error:
            raise _first_problem(error) from None
        self._unknown_fields.warn_of(body.model_extra or ())
        return body


async def _read(request: Request) -> bytearray:
    """Collects the body; a bytearray, for a list of millions of tiny chunks would weigh more."""
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def _parse(body: bytearray) -> dict[str, Any]:
    try:
        # NaN and infinities pass here, so that the models can refuse them by the field's name.
        fields = jiter.from_json(bytes(body), allow_inf_nan=True, catch_duplicate_keys=True)
    except ValueError as error:
        raise _not_json(bytes(body), error) from None
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    return fields


def _not_json(body: bytes, error: ValueError) -> ApiError:
    """By the field, where what is wrong is an escape that stands for no character."""
    place = find_lone_surrogate(body) if "hex escape" in str(error) else None
    if not place:
        return ApiError(400, f"The body is not JSON: {error}.", code="invalid_json")
    param = _path(place)
    problem = f"{param} holds a lone surrogate, an escape that stands for no character: {error}."
    return ApiError(400, problem, param=param, code="invalid_json")


def _refuse_unsupported(fields: Mapping[str, Any], neutral: Neutral) -> None:
    for name in neutral.keys() & fields.keys():
        value = fields[name]
        # By type too: in Python true equals 1.
        asks_for_nothing = value is None or any(
            type(value) is type(allowed) and value == allowed for allowed in neutral[name]
        )
        if not asks_for_nothing:
            raise unsupported(name)


def _refuse_long_lists(fields: Mapping[str, Any], longest: int | None) -> None:
    for name, value in fields.items():
        if isinstance(value, list) and longest is not None and len(value) > longest:
            raise invalid(name, value, f"a list of at most {longest}")


def _first_problem(error: ValidationError) -> ApiError:
    problem = error.errors(include_url=False)[0]
    param = _path(problem["loc"])
    match problem["type"]:
        case "missing":
            return ApiError(400, f"{param} is required.", param=param, code="missing_required")
        case "too_long":
            limit = f"a list of at most {problem['ctx']['max_length']}"
        case "model_type" | "dict_type":
            limit = "an object"
        case _:
            limit = problem["msg"].removeprefix("Input should be ")
    return invalid(param, problem["input"], limit)


def _path(loc: Sequence[int | str]) -> str:
    """("messages", 2, "content", "<parts>", 0) as messages[2].content[0]."""
    path = ""
    for step in loc:
        if isinstance(step, int) or path in _MAPPINGS:
            path += f"[{str(step)[:60]}]"
        elif not step.startswith("<"):  # the tag of a union is ours, not the client's
            path += f".{step[:60]}" if path else step
    return path

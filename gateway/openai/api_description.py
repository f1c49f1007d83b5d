"""The API in OpenAPI's form, put together from the models of its bodies and answers.

Source of the form: the OpenAPI Specification 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.openai import answer_schema
from gateway.openai.answer_schema import Answer
from gateway.openai.body import Body
from gateway.openai.body_schema import REF_TEMPLATE, Schema, body_schema
from gateway.openai.chat_body import ChatBody
from gateway.openai.completion_body import CompletionBody
from gateway.openai.tokenize_body import DetokenizeBody, TokenizeBody

_REQUEST_ID: Schema = {
    "name": "x-request-id",
    "in": "header",
    "description": "Names the request in the answer and in the logs; absent: drawn.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
}
_MODEL_ID: Schema = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The model's name.",
    "schema": {"type": "string", "minLength": 1},
}
_REFUSALS = {"400": "The request is wrong.", "503": "No worker group serves now."}
_BODY_REFUSALS = {
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "429": "A limit or a queue is full; see retry-after.",
    "500": "The server failed.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one route."""

    method: str
    path: str
    summary: str
    answer: type[Answer]
    body: type[Body] | None = None
    streams: bool = False


OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        summary="Goes on with a conversation.",
        body=ChatBody,
        answer=answer_schema.ChatCompletion,
        streams=True,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        summary="Goes on with a text.",
        body=CompletionBody,
        answer=answer_schema.Completion,
        streams=True,
    ),
    Operation(
        method="get",
        path="/v1/models",
        summary="Lists the models.",
        answer=answer_schema.ModelList,
    ),
    Operation(
        method="get",
        path="/v1/models/{id}",
        summary="Describes one model.",
        answer=answer_schema.Model,
    ),
    Operation(
        method="post",
        path="/v1/tokenize",
        summary="Turns a text or a conversation into token ids.",
        body=TokenizeBody,
        answer=answer_schema.Tokens,
    ),
    Operation(
        method="post",
        path="/v1/detokenize",
        summary="Turns token ids into text.",
        body=DetokenizeBody,
        answer=answer_schema.Text,
    ),
    Operation(
        method="get",
        path="/health",
        summary="Says whether a request can be served now.",
        answer=answer_schema.Health,
    ),
)


def describe_api(version: str) -> dict[str, Any]:
    """The whole description."""
    schemas = _answer_schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        if operation.body is not None:
            schema, shared = body_schema(operation.body)
            schemas |= {operation.body.__name__: schema, **shared}
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Octavo", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _answer_schemas() -> dict[str, Schema]:
    answers = [operation.answer for operation in OPERATIONS] + [answer_schema.ErrorAnswer]
    _, found = models_json_schema(
        [(answer, "serialization") for answer in answers], ref_template=REF_TEMPLATE
    )
    schemas: dict[str, Schema] = found["$defs"]
    return schemas


def _operation(operation: Operation) -> Schema:
    parameters = [_REQUEST_ID, *([_MODEL_ID] if "{id}" in operation.path else [])]
    described = {
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _responses(operation),
    }
    if operation.body is not None:
        content = {"application/json": {"schema": _ref(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(operation: Operation) -> Schema:
    content = {"application/json": {"schema": _ref(operation.answer)}}
    if operation.streams:
        content["text/event-stream"] = {}  # each event a chunk as JSON, then [DONE]
    refusals = _REFUSALS | (_BODY_REFUSALS if operation.body else {})
    if "{id}" in operation.path:
        refusals |= {"404": _BODY_REFUSALS["404"]}
    error = {"application/json": {"schema": _ref(answer_schema.ErrorAnswer)}}
    return {
        "200": {"description": operation.answer.__doc__, "content": content},
        **{code: {"description": text, "content": error} for code, text in refusals.items()},
    }


def _ref(model: type[Answer | Body]) -> Schema:
    return {"$ref": REF_TEMPLATE.format(model=model.__name__)}

"""What /openapi.json says is what the routes take and give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import jsonschema_rs
import pytest

from gateway.openai.api_description import describe_api
from gateway.openai.app import create_app
from gateway.openai.limits import HttpLimits
from octavo.errors import ResourceExhaustedError
from tests.gateway.openai.checked_core import CheckedGeneration, checked_tokenization
from tests.gateway.openai.conftest import door
from tests.gateway.openai.fake_generation import MODEL, FakeGeneration, scored_script

API = describe_api("1")
SCHEMAS: dict[str, Any] = API["components"]["schemas"]
MESSAGES = [{"role": "user", "content": "a"}]
# What a body holds besides the field that is tried, so that it is right but for that one.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "logprobs": True},
    "/v1/completions": {"prompt": "a", "n": 16},  # with the most prompts: as many as may be open
    "/v1/tokenize": {"prompt": "a"},
    "/v1/detokenize": {"tokens": [1]},
}
VALUES: list[Any] = [None, True, False, 0, 1, -1, 0.5, 2**63, 10**21, "", "x", "٣", [], {}, [1]]
VALUES += [["x"], [1, "x"], ["x", 1], [None], [[]], [[1]], [{}], {"x": 1}, {"7": 1}, {"07": 1}]
VALUES += [{"7": "x"}]


def body_with(path: str, name: str, value: Any) -> dict[str, Any]:
    """A body that is right but for what `value` may do to it."""
    body = {**BODIES[path], name: value}
    if (path, name) == ("/v1/tokenize", "messages"):  # one input takes the place of the other
        del body["prompt"]
    return body


def fits_the_rest(path: str, name: str, value: Any) -> bool:
    """What no schema of one field can say."""
    if name == "best_of":  # 1 or n
        return value in (None, 1, 16)
    is_input = path == "/v1/tokenize" and name in ("prompt", "messages")
    return not is_input or value is not None


def named(reference: dict[str, Any]) -> Any:
    return SCHEMAS[reference["$ref"].rpartition("/")[2]]


def validator(schema: Any) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**schema, "components": API["components"]})


def body_schema(path: str) -> Any:
    return named(API["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


def edges(schema: Any) -> Iterator[Any]:
    """Values at and just past each bound within a schema."""
    for kind in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from edges(kind)
    for name in ("minimum", "maximum", "exclusiveMinimum"):
        if name in schema:
            yield from (schema[name] - 1, schema[name], schema[name] + 1)
    for name in ("minLength", "maxLength"):
        if schema.get(name, 2**20) < 2**12:
            yield from ("x" * max(schema[name] + more, 0) for more in (-1, 0, 1))
    for name in ("minItems", "maxItems"):
        if schema.get(name, 2**20) < 2**12:
            item = next(iter(good_items(schema["items"])))
            yield from ([item] * max(schema[name] + more, 0) for more in (-1, 0, 1))
    if "items" in schema and "$ref" not in schema["items"]:
        yield from ([item] for item in edges(schema["items"]))
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        yield from ({"7": value} for value in edges(schema["additionalProperties"]))
    yield from schema.get("enum", ())


def good_items(schema: Any) -> Iterator[Any]:
    """Items that pass: one of each kind of list that bodies hold."""
    if "$ref" in schema:
        yield MESSAGES[0]
    elif schema["type"] == "array":
        yield [1]
    else:
        yield "x" if schema["type"] == "string" else 1


@pytest.fixture
async def checked() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(CheckedGeneration(), checked_tokenization(), limits=HttpLimits())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        yield client


@pytest.mark.parametrize("path", BODIES)
async def test_each_field_takes_what_its_schema_says(checked: httpx.AsyncClient, path: str) -> None:
    schema = body_schema(path)
    is_right = validator(schema).is_valid
    num_right = num_wrong = 0
    for name, field in schema["properties"].items():
        for value in [*VALUES, *edges(field)]:
            body = body_with(path, name, value)
            expected = is_right(body) and fits_the_rest(path, name, value)
            answer = await checked.post(path, json=body)
            assert (answer.status_code == 200) is expected, (name, str(value)[:80], answer.text)
            if not expected:
                assert answer.status_code == 400
                no_input = path == "/v1/tokenize" and value is None
                said = answer.json()["error"]["param"]
                assert said.startswith("prompt" if no_input else name)
            num_right += expected
            num_wrong += not expected
    assert num_right > 10 and num_wrong > 10


@pytest.mark.parametrize("path", BODIES)
async def test_what_is_required_is_required(checked: httpx.AsyncClient, path: str) -> None:
    required = body_schema(path).get("required", [])
    assert len(required) == (0 if path == "/v1/tokenize" else 1)
    for name in required:
        answer = await checked.post(path, json={"model": "x"})
        assert answer.json()["error"]["message"] == f"{name} is required."


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/v1/chat/completions", {"messages": MESSAGES}),
        ("post", "/v1/chat/completions", {"messages": MESSAGES, "logprobs": True}),
        ("post", "/v1/completions", {"prompt": ["a", "b"]}),
        ("post", "/v1/completions", {"prompt": "a", "logprobs": 1}),
        ("get", "/v1/models", None),
        ("get", f"/v1/models/{MODEL}", None),
        ("post", "/v1/tokenize", {"prompt": "a"}),
        ("post", "/v1/tokenize", {"prompt": "a", "return_token_strs": True}),
        ("post", "/v1/detokenize", {"tokens": [97]}),
        ("get", "/health", None),
    ],
)
async def test_answers_are_as_described(
    http: httpx.AsyncClient, generation: FakeGeneration, method: str, path: str, body: Any
) -> None:
    generation.answer = lambda _: scored_script()
    answer = await http.request(method, path, json=body)
    assert answer.status_code == 200
    described = API["paths"][path.replace(MODEL, "{id}")][method]["responses"]
    schema = named(described["200"]["content"]["application/json"]["schema"])
    validator(schema).validate(answer.json())


async def test_errors_are_as_described(http: httpx.AsyncClient, generation: FakeGeneration) -> None:
    generation.answer = lambda _: [ResourceExhaustedError("Full.")]
    for path, body in (("/v1/completions", {"prompt": "a"}), ("/v1/completions", {}), ("/x", {})):
        answer = await http.post(path, json=body)
        assert answer.status_code >= 400
        validator(SCHEMAS["ErrorAnswer"]).validate(answer.json())


class Page(HTMLParser):
    """What a page links to, names and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.links |= {value for name in ("href", "src") if (value := found.get(name))}
        self.ids |= {found["id"] or ""} if "id" in found else set()


async def test_the_page_is_whole_and_loads_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page()
    page.feed(answer.text)
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert page.links - {"openapi.json"} <= {f"#{name}" for name in page.ids}
    assert page.ids == SCHEMAS.keys()
    for path in API["paths"]:
        assert path in answer.text
    assert (await http.get("/openapi.json")).json()["paths"] == API["paths"]


async def test_it_can_be_switched_off() -> None:
    app = door(FakeGeneration(), has_docs=False)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        for path in ("/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 404

"""The way in over HTTP: /v1/completions as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from octavo.bench.sample import Sample
from octavo.bench.target import ModelLimits, Target
from octavo.bench.workload import Job
from octavo.errors import FailedPreconditionError, UnavailableError, invalid_field

_DATA = "data: "
_DONE = "[DONE]"


class Http:
    """One response a request; connections are kept."""

    def __init__(self, client: httpx.AsyncClient, target: Target) -> None:
        self._client, self._target = client, target

    async def generate(self, job: Job) -> Sample:
        sample = Sample(job)
        try:
            body = _body(job, self._target)
            async with self._client.stream("POST", "/v1/completions", json=body) as response:
                if response.is_success:
                    await _follow(response, sample)
                else:
                    await response.aread()
                    sample.fail(_reason(response.json()))
        except httpx.HTTPError as error:
            sample.fail(type(error).__name__)
        return sample.end()


@asynccontextmanager
async def open_http(target: Target) -> AsyncIterator[Http]:
    """The HTTP door with connections of its own."""
    assert target.http is not None, "this target has no HTTP door"
    async with httpx.AsyncClient(
        base_url=target.http,
        timeout=target.request_limit_s,
        limits=httpx.Limits(max_connections=None),
        trust_env=False,  # no proxy between client and product
    ) as client:
        yield Http(client, target)


def model_limits(url: str, *, timeout_s: float | None) -> ModelLimits:
    """The limits of the only model that is served at `url`. Raises UnavailableError where nobody
    answers, FailedPreconditionError where it is another kind of server.
    """
    try:
        answer = httpx.get(f"{url}/v1/models", timeout=timeout_s, trust_env=False)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise invalid_field("http", url, "http://host:port") from None
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"No server answers at {url}: {error}", reason="NO_HTTP_SERVER"
        ) from error
    try:
        (model,) = answer.json()["data"]
        return ModelLimits(
            vocabulary_size=model["vocabulary_size"], max_context_tokens=model["max_model_len"]
        )
    except (ValueError, LookupError, TypeError):
        raise FailedPreconditionError(
            f"{url} does not list one model of Octavo at /v1/models (status {answer.status_code}).",
            reason="NO_MODEL",
        ) from None


async def _follow(response: httpx.Response, sample: Sample) -> None:
    """Leaving early closes the connection, which is how a client of HTTP cancels."""
    async for line in response.aiter_lines():
        data = line.removeprefix(_DATA)
        if data is line or data == _DONE:
            continue
        event = json.loads(data)
        if "error" in event:
            sample.fail(_reason(event))
        elif event.get("usage"):
            sample.take_usage(event["usage"]["completion_tokens"])
        elif event["choices"][0]["text"] and sample.take_delta():
            return


def _reason(body: dict[str, Any]) -> str:
    """The code of an error in OpenAI's shape."""
    error = body["error"]
    return str(error.get("code") or error.get("type")).upper()


def _body(job: Job, target: Target) -> dict[str, Any]:
    return {
        "prompt": job.prompt_ids,
        "max_tokens": job.max_tokens,
        "temperature": target.temperature,
        "seed": job.number,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

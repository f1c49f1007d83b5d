"""What a user asks first, on the default model, through every door."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from typing import Any

import openai
import pytest

from octavo.v1 import generation_pb2
from tests.end_to_end.product import REPOSITORY, Product, chat

pytestmark = [pytest.mark.slow, pytest.mark.real_model]

QUESTION = "What is the capital of France?"


def test_grpc_answers_paris_and_stops(real: Product) -> None:
    with real.generation() as stub:
        answer = stub.Generate(chat(QUESTION))
    assert "Paris" in answer.outputs[0].text
    assert answer.outputs[0].finished.reason == generation_pb2.FINISH_REASON_STOP
    assert answer.usage.completion_token_count > 0


def test_a_stream_joins_to_the_unary_answer_in_the_promised_order(real: Product) -> None:
    with real.generation() as stub:
        whole = stub.Generate(chat(QUESTION))
        events = list(stub.StreamGenerate(chat(QUESTION)))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "accepted" and kinds[-2:] == ["finished", "usage"]
    assert set(kinds[1:-2]) == {"delta"}
    assert "".join(event.delta.text for event in events) == whole.outputs[0].text


def posted(url: str, body: str) -> str:
    """What curl prints; Python's own client stands in on a machine that has none."""
    kind = "content-type: application/json"
    if curl := shutil.which("curl"):
        command = [curl, "-sS", "-N", url, "-H", kind, "-d", body]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    request = urllib.request.Request(url, body.encode(), dict([kind.split(": ")]))
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def test_curl_streams_paris(real: Product) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "stream": True}
    output = posted(f"{real.http}/v1/chat/completions", json.dumps(body))
    lines = [line.removeprefix("data: ") for line in output.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert "Paris" in "".join(chunk["delta"].get("content", "") for chunk in chunks)
    assert chunks[-1]["finish_reason"] == "stop"


def test_the_openai_client_completes_a_chat_both_ways(real: Product) -> None:
    with openai.OpenAI(base_url=f"{real.http}/v1", api_key="none") as client:
        model = client.models.list().data[0].id
        create: Any = client.chat.completions.create  # plain dicts are what users pass
        messages = [{"role": "user", "content": QUESTION}]
        answer = create(model=model, messages=messages, temperature=0)
        assert "Paris" in (answer.choices[0].message.content or "")
        assert answer.choices[0].finish_reason == "stop"
        stream = create(model=model, messages=messages, temperature=0, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == answer.choices[0].message.content


def test_the_script_on_generated_stubs_does_unary_stream_and_session(real: Product) -> None:
    result = subprocess.run(
        [sys.executable, "docs/examples/stubs.py", real.grpc],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    unary, stream, *session = result.stdout.splitlines()
    assert "Paris" in unary and "Paris" in stream
    assert len(session) == 2 and all(line for line in session)

"""The command line on the running product."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.end_to_end.product import Product

pytestmark = [pytest.mark.slow, pytest.mark.real_model]


def octavo(product: Product, *arguments: str, stdin: str = "") -> str:
    """What a command prints; it must succeed without a word on stderr."""
    metrics = f"127.0.0.1:{product.gateway.ports['metrics_port']}"
    done = subprocess.run(
        [sys.executable, "-m", "octavo", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"OCTAVO_ADDRESS": product.grpc, "OCTAVO_METRICS_ADDRESS": metrics},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_piped_question_is_answered(real: Product) -> None:
    answer = octavo(real, "chat", "--temperature=0", stdin="What is the capital of France?\n")
    assert answer == "The capital of France is Paris.\n"


def test_a_completion_streams_its_events(real: Product) -> None:
    prompt = ["complete", "One, two, three,", "--temperature=0", "--max-tokens=4"]
    assert octavo(real, *prompt) == " four, five,\n"
    events = [json.loads(line) for line in octavo(real, *prompt, "--json").splitlines()]
    texts = [event["text"] for event in events if event["event"] == "delta"]
    assert len(texts) > 1 and "".join(texts) == " four, five,"
    assert events[-1]["completion_token_count"] == 4


def test_the_model_and_its_workers_are_shown(real: Product) -> None:
    assert octavo(real, "models").splitlines()[1].split()[:3] == [
        "SmolLM2-135M-Instruct",
        "yes",
        "8192",
    ]
    octavo(real, "complete", "Hi", "--max-tokens=1")
    (worker,) = json.loads(octavo(real, "status", "--json", "--interval=0.1"))["workers"]
    assert (worker["ready"], worker["ranks"]) == (True, 1)
    assert worker["kv_blocks_total"] > 0 and worker["generated_tokens"] > 0

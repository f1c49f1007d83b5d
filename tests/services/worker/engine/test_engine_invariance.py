"""64 requests on the default model: the same bits alone, in any company, chunks and threads.

Log probabilities are compared as they are, not within a tolerance: they would show the last bit.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import LogprobOptions, Sampling, Submission
from services.worker.engine.step_result import TokenLogprob
from services.worker.models import Model, load_model
from tests.services.worker.engine.toy_model import Answers, run_to_end, submission

NUM_REQUESTS = 64
Answer = tuple[list[int], list[TokenLogprob], tuple[TokenLogprob, ...]]


def load(folder: Path, num_threads: int) -> Iterator[Model]:
    before = torch.get_num_threads()
    yield load_model(folder, device=torch.device("cpu"), dtype=None, num_threads=num_threads)
    torch.set_num_threads(before)


def engine(model: Model, *, max_step_tokens: int = 2048, num_blocks: int = 2000) -> Engine:
    config = EngineConfig(
        num_blocks=num_blocks,
        block_tokens=16,
        max_step_tokens=max_step_tokens,
        max_running=NUM_REQUESTS,
        max_waiting=NUM_REQUESTS,
        max_waiting_prompt_tokens=100_000,
        max_context=512,
    )
    return Engine(model=model, config=config, clock=lambda: 1000.0)


def requests() -> list[Submission]:
    rng = random.Random(7)
    return [
        submission(
            key,
            [rng.randrange(3, 49_000) for _ in range(rng.choice([1, 2, 15, 16, 17, 60, 200, 300]))],
            sampling=Sampling(temperature=float(key % 2), top_p=0.9, seed=key),
            logprobs=LogprobOptions(generated=True, prompt=key % 8 == 0, top=3),
            max_tokens=rng.choice([3, 8, 20]),
        )
        for key in range(NUM_REQUESTS)
    ]


def answers_of(answers: Answers) -> dict[int, Answer]:
    return {
        key: (answers.ids[key], answers.logprobs[key], answers.prompt_logprobs.get(key, ()))
        for key in range(NUM_REQUESTS)
    }


def in_random_company(engine: Engine, seed: int) -> dict[int, Answer]:
    """Requests in another order, some of them while others run."""
    rng, answers = random.Random(seed), Answers()
    waiting = iter(rng.sample(requests(), NUM_REQUESTS))
    while True:
        some = list(itertools.islice(waiting, rng.choice([0, 1, 5, 20])))
        for one in some:
            engine.submit(one)
        answers.add(engine.step().items)
        if not some and not engine.has_work and len(answers.ends) == NUM_REQUESTS:
            return answers_of(answers)


@pytest.fixture(scope="module")
def alone(default_model: Path) -> dict[int, Answer]:
    """Each request with nobody beside it, by one thread."""
    answers = Answers()
    for model in load(default_model, 1):
        for one in requests():
            lonely = engine(model)
            lonely.submit(one)
            run_to_end(lonely, answers)
    return answers_of(answers)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.cpu_promise("a row keeps its bits in any batch")
@pytest.mark.parametrize(
    ("num_threads", "max_step_tokens", "num_blocks"),
    [(1, 2048, 2000), (2, 70, 2000), (3, 333, 150)],
    ids=["one thread", "two, small chunks", "three, preempted"],
)
def test_64_requests_keep_their_bits(
    default_model: Path,
    alone: dict[int, Answer],
    num_threads: int,
    max_step_tokens: int,
    num_blocks: int,
) -> None:
    for model in load(default_model, num_threads):
        busy = engine(model, max_step_tokens=max_step_tokens, num_blocks=num_blocks)
        assert in_random_company(busy, num_threads) == alone

"""The same answer, whatever else runs, and the right one."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import torch

from octavo.v1.generation_pb2_grpc import GenerationServiceStub
from tests.end_to_end.product import Product, greedy, ids_of

FIXTURES = ("fmo-l0", "fmo-l1", "fmo-l2")


def mixed_prompts(count: int, vocabulary: int, shortest: int, longest: int) -> list[list[int]]:
    draw = random.Random(7)
    lengths = [draw.randint(shortest, longest) for _ in range(count)]
    return [[draw.randrange(3, vocabulary) for _ in range(length)] for length in lengths]


async def together(product: Product, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    async with grpc.aio.insecure_channel(product.grpc) as channel:
        stub: Any = GenerationServiceStub(channel)

        async def one(prompt: list[int]) -> list[int]:
            events = stub.StreamGenerate(greedy(prompt, max_tokens))
            return [token.id async for event in events for token in event.delta.tokens]

        return await asyncio.gather(*map(one, prompts))


def alone(product: Product, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    with product.generation() as stub:
        return [ids_of(stub.Generate(greedy(prompt, max_tokens))) for prompt in prompts]


async def test_32_streams_answer_as_each_does_alone(tiny: Product) -> None:
    prompts = mixed_prompts(32, 256, 5, 400)
    expected = await asyncio.to_thread(alone, tiny, prompts, 64)
    assert all(len(ids) == 64 for ids in expected)
    assert await together(tiny, prompts, 64) == expected


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.timeout(600)
async def test_32_streams_of_the_default_model_answer_as_each_does_alone(real: Product) -> None:
    prompts = mixed_prompts(32, 49152, 5, 400)
    expected = await asyncio.to_thread(alone, real, prompts, 64)
    assert await together(real, prompts, 64) == expected


@pytest.fixture(scope="module", params=FIXTURES)
def golden(
    request: pytest.FixtureRequest, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Product, Path]]:
    """The product around a fixture, computing in float32."""
    folder = checkpoints / request.param
    product = Product(folder, tmp_path_factory.mktemp(request.param), "--dtype=float32")
    product.start()
    yield product, folder
    product.stop()


def test_the_fixtures_give_their_golden_ids(golden: tuple[Product, Path]) -> None:
    product, folder = golden
    cases = json.loads((folder / "golden.json").read_text())["cases"]
    cases = [case for case in cases if case["mode"] == "weight_only"]
    assert cases
    for case in cases:
        expected = case["greedy"]
        assert alone(product, [case["prompt"]], len(expected)) == [expected]


def prompts_of_mixed_length(product: Product) -> list[list[int]]:
    text = (Path(__file__).parents[2] / "LICENSE").read_text()
    ids = product.encode(text[:6000])
    draw = random.Random(11)
    lengths = [1, 2, 5, 8, 15, 16, 17, 31, 33, 48, 64, 65, 100, 127, 129, 180, 200, 256, 300, 400]
    starts = [draw.randrange(len(ids) - length) for length in lengths]
    return [ids[start : start + length] for start, length in zip(starts, lengths, strict=True)]


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("dtype", "least_margin"), [("float32", 4e-4), ("bfloat16", 0.3)])
def test_greedy_ids_equal_transformers_on_the_dequantised_weights(
    default_model: Path, tmp_path: Path, dtype: str, least_margin: float
) -> None:
    from tests.end_to_end.oracle import dequantised_model

    product = Product(default_model, tmp_path, f"--dtype={dtype}")
    product.start()
    prompts = prompts_of_mixed_length(product)
    served = alone(product, prompts, 64)
    product.stop()
    oracle = dequantised_model(default_model, getattr(torch, dtype))
    compared = 0
    for prompt, ids in zip(prompts, served, strict=True):
        # One forward pass over prompt and answer: as long as all ids before are equal, position by
        # position it is the oracle's own greedy run.
        with torch.no_grad():
            logits = oracle(torch.tensor([prompt + ids[:-1]])).logits[0, len(prompt) - 1 :].float()
        best = logits.topk(2)
        for position, (values, indices) in enumerate(zip(*best, strict=True)):
            if values[0] - values[1] < least_margin:
                break
            assert ids[position] == indices[0], (len(prompt), position)
            compared += 1
    assert compared > (1000 if dtype == "float32" else 50)

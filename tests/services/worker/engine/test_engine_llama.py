"""The engine on a real network: the same ids, bit for bit, whatever else runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import LogitRules, LogprobOptions, Sampling, Submission
from services.worker.models import Model, load_model
from tests.services.worker import tiny_llama
from tests.services.worker.engine.toy_model import Answers, run_to_end, submission
from tests.services.worker.models.test_llama import oracle_of

_CHECKPOINTS = Path(__file__).parents[3] / "fixtures" / "checkpoints"
_CONFIG = EngineConfig(
    num_blocks=1000,
    block_tokens=16,
    max_step_tokens=512,
    max_running=32,
    max_waiting=64,
    max_waiting_prompt_tokens=100_000,
    max_context=512,
)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def model(request: pytest.FixtureRequest, device: torch.device) -> Model:
    return load_model(_CHECKPOINTS / "fmo-l0", device=device, dtype=request.param)


def _run(model: Model, config: EngineConfig, asked: list[Submission]) -> tuple[Engine, Answers]:
    engine = Engine(model=model, config=config, clock=lambda: 1000.0)
    for one in asked:
        engine.submit(one)
    return engine, run_to_end(engine)


def _mixed_requests() -> list[Submission]:
    """32 prompts of 5 to 400 ids; every other one is drawn at random."""
    generator = torch.Generator().manual_seed(1)
    lengths = [5 + 395 * key * key // 31**2 for key in range(32)]
    return [
        submission(
            key,
            torch.randint(3, 259, (length,), generator=generator).tolist(),
            sampling=Sampling(temperature=float(key % 2), top_p=0.95, seed=key),
            max_tokens=64,
        )
        for key, length in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def ids_of_each_alone(model: Model) -> dict[int, list[int]]:
    ids: dict[int, list[int]] = {}
    for one in _mixed_requests():
        ids[one.key] = _run(model, _CONFIG, [one])[1].ids[one.key]
    return ids


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.cpu_promise("a row keeps its bits in any batch")
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="together"),
        pytest.param({"max_step_tokens": 37}, id="in small chunks"),
        pytest.param({"num_blocks": 60, "max_step_tokens": 100}, id="under preemption"),
        pytest.param({"block_tokens": 32, "num_blocks": 500}, id="in other blocks"),
    ],
)
def test_32_at_once_give_what_each_gives_alone(
    model: Model, ids_of_each_alone: dict[int, list[int]], changes: dict[str, int]
) -> None:
    config = dataclasses.replace(_CONFIG, **changes)
    engine, answers = _run(model, config, _mixed_requests())
    assert {key: answers.ids[key] for key in ids_of_each_alone} == ids_of_each_alone
    assert engine.load.num_used_blocks == 0
    assert (engine.load.num_preemptions > 0) == (config.num_blocks == 60)


@pytest.mark.cpu_promise("a row keeps its bits in any chunks")
def test_a_prompt_alone_that_takes_several_steps(model: Model) -> None:
    asked = [submission(0, list(range(3, 203)), max_tokens=8)]
    whole = _run(model, _CONFIG, asked)[1].ids
    config = dataclasses.replace(
        _CONFIG, max_running=1, max_step_tokens=64
    )  # three of its steps draw nothing
    assert _run(model, config, asked)[1].ids == whole


@pytest.mark.parametrize("checkpoint", ["fmo-l0", "fmo-l1", "fmo-l2"])
def test_golden_greedy_ids_in_float32(checkpoint: str, device: torch.device) -> None:
    folder = _CHECKPOINTS / checkpoint
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    cases = [case for case in golden["cases"] if case["mode"] == "weight_only"]
    model = load_model(folder, device=device, dtype=torch.float32)
    asked = [
        submission(key, case["prompt"], max_tokens=len(case["greedy"]))
        for key, case in enumerate(cases)
    ]
    _, answers = _run(model, dataclasses.replace(_CONFIG, max_step_tokens=50), asked)
    assert [answers.ids[key] for key in range(len(cases))] == [case["greedy"] for case in cases]
    assert len(cases) == 5


_OPTIONS = LogprobOptions(generated=True, prompt=True, top=5)


def _ids(count: int) -> list[int]:
    return [(7 * step * step + 3) % 96 for step in range(count)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("tiny"))


def test_log_probabilities_equal_transformers(tiny: Path, device: torch.device) -> None:
    oracle = oracle_of(tiny)
    model = load_model(tiny, device=device, dtype=torch.float32)
    asked = [
        submission(
            key,
            _ids(length),
            forced_ids=tuple(_ids(length + 20)[length:]),
            max_tokens=25,
            sampling=Sampling(seed=key, rules=LogitRules(repetition_penalty=1.7)),
            logprobs=_OPTIONS,
        )
        for key, length in enumerate([2, 9, 40, 130, 300])
    ]
    _, answers = _run(model, _CONFIG, asked)
    for one in asked:
        ids = torch.tensor([*one.prompt_ids, *answers.ids[one.key]])
        with torch.inference_mode():
            expected = oracle(ids[None, :-1]).logits[0].double().log_softmax(-1)
        found = [*answers.prompt_logprobs[one.key], *answers.logprobs[one.key]]
        own = torch.tensor([each.logprob for each in found])
        assert (own - expected.gather(1, ids[1:, None])[:, 0]).abs().max() < 1e-4
        top = torch.tensor([each.top_logprobs for each in found])
        assert (top - expected.topk(5).values).abs().max() < 1e-4
        named = expected.gather(1, torch.tensor([each.top_ids for each in found]))
        assert (top - named).abs().max() < 1e-4


@pytest.mark.parametrize("max_step_tokens", [37, 100, 512])
def test_log_probabilities_have_the_same_bits_in_any_chunks_and_company(
    tiny: Path, max_step_tokens: int
) -> None:
    model = load_model(tiny, device=torch.device("cpu"), dtype=None)
    text = _ids(200)
    asked = [
        submission(1, text, max_tokens=0, logprobs=_OPTIONS),
        submission(2, text[:50], forced_ids=tuple(text[50:]), max_tokens=150, logprobs=_OPTIONS),
    ]
    others = [submission(key, _ids(13 * key), max_tokens=20) for key in range(3, 20)]
    config = dataclasses.replace(_CONFIG, max_step_tokens=max_step_tokens)
    _, alone = _run(model, _CONFIG, asked[:1])
    _, answers = _run(model, config, [*others[:9], *asked, *others[9:]])
    assert answers.prompt_logprobs[1] == alone.prompt_logprobs[1]
    assert (*answers.prompt_logprobs[2], *answers.logprobs[2]) == alone.prompt_logprobs[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_that_share_blocks_have_the_bits_of_outputs_that_do_not(
    tiny: Path, dtype: torch.dtype
) -> None:
    model = load_model(tiny, device=torch.device("cpu"), dtype=dtype)
    options = LogprobOptions(generated=True, top=3)
    shared = submission(
        1, _ids(41), num_outputs=5, max_tokens=30, sampling=Sampling(seed=2), logprobs=options
    )
    _, answers = _run(model, _CONFIG, [shared])
    begun = tuple(tuple(answers.ids[1, index][:3]) for index in range(5))
    # Each begins anew here, with blocks of its own.
    _, others = _run(model, _CONFIG, [dataclasses.replace(shared, generated_ids=begun)])
    small = dataclasses.replace(_CONFIG, num_blocks=12, max_context=90)
    engine, scarce = _run(model, small, [shared])
    assert engine.load.num_preemptions > 0
    for index in range(5):
        assert others.ids[1, index] == answers.ids[1, index][3:]
        assert others.logprobs[1, index] == answers.logprobs[1, index][3:]
        assert scarce.ids[1, index] == answers.ids[1, index]
        assert scarce.logprobs[1, index] == answers.logprobs[1, index]

"""The default model against transformers' float32 run of the weights dequantised by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import LogprobOptions
from services.worker.models import load_model
from tests.services.worker.engine.toy_model import run_to_end, submission
from tests.services.worker.paged_sequences import PagedSequences

CPU = torch.device("cpu")
PROMPT_LENGTHS = [1, 2, 3, 5, 8, 9, 13, 17, 21, 30, 33, 40, 55, 64, 90, 128, 129, 200, 256, 300]
NUM_TOKENS = 64


@pytest.fixture(scope="module")
def oracle(default_model: Path) -> LlamaForCausalLM:
    """Exact dequantisation with safetensors and torch alone, none of the worker's code."""
    stored = load_file(default_model / "model.safetensors")
    state = {}
    for name, tensor in stored.items():
        if name.endswith(".weight"):
            scale = stored.get(name + "_scale")
            codes = tensor.view(torch.float8_e4m3fn) if scale is not None else tensor
            state[name] = codes.float() * (1 if scale is None else scale)
    values = json.loads((default_model / "config.json").read_text())
    values.pop("quantization_config")
    model = LlamaForCausalLM(LlamaConfig(**values | {"torch_dtype": "float32"})).float()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "least_margin", "least_compared"),
    [(torch.float32, 4e-4, 1000), (torch.bfloat16, 0.3, 100)],
    ids=str,
)
@torch.inference_mode()
def test_greedy_ids_equal_transformers(
    default_model: Path,
    oracle: LlamaForCausalLM,
    dtype: torch.dtype,
    least_margin: float,
    least_compared: int,
) -> None:
    model = load_model(default_model, device=CPU, dtype=dtype)
    paged = PagedSequences(model)
    rng = random.Random(0)
    prompts = [[rng.randrange(model.config.vocab_size) for _ in range(n)] for n in PROMPT_LENGTHS]
    num_compared = 0
    for prompt, made in zip(prompts, paged.greedy_together(prompts, NUM_TOKENS), strict=True):
        # One pass over the ids that were made: equal to decoding for as long as they agree.
        ids = torch.tensor([prompt + made[:-1]])
        best = oracle(ids).logits[0, len(prompt) - 1 :].topk(2)
        margins = (best.values[:, 0] - best.values[:, 1]).tolist()
        for index, (token, margin) in enumerate(zip(made, margins, strict=True)):
            if margin < least_margin:
                break
            assert token == best.indices[index, 0], f"prompt of {len(prompt)}, token {index}"
            num_compared += 1
    assert num_compared > least_compared


@pytest.mark.slow
@torch.inference_mode()
def test_log_probabilities_equal_transformers(
    default_model: Path, oracle: LlamaForCausalLM
) -> None:
    model = load_model(default_model, device=CPU, dtype=torch.float32)
    config = EngineConfig(
        num_blocks=100,
        max_step_tokens=256,
        max_running=8,
        max_waiting=8,
        max_waiting_prompt_tokens=10_000,
        max_context=1024,
    )
    engine, rng = Engine(model=model, config=config, clock=lambda: 1000.0), random.Random(1)
    texts = [[rng.randrange(model.config.vocab_size) for _ in range(n)] for n in (2, 40, 300)]
    options = LogprobOptions(prompt=True, top=20)
    for key, text in enumerate(texts):
        engine.submit(submission(key, text, max_tokens=0, logprobs=options))
    answers = run_to_end(engine)
    for key, text in enumerate(texts):
        expected = oracle(torch.tensor([text])).logits[0, :-1].double().log_softmax(-1)
        found = answers.prompt_logprobs[key]
        own = torch.tensor([each.logprob for each in found])
        top = torch.tensor([each.top_logprobs for each in found])
        assert (own - expected.gather(1, torch.tensor(text[1:])[:, None])[:, 0]).abs().max() < 1e-3
        assert (top - expected.topk(20).values).abs().max() < 1e-3

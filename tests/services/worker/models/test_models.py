"""load_model and what a loaded model says of itself."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.errors import InvalidArgumentError, NotFoundError, UnimplementedError
from services.worker import models
from services.worker.batch import Batch
from services.worker.model_config import model_types
from services.worker.models import load_model, read_config
from tests.services.worker import tiny_llama

CPU = torch.device("cpu")


def test_progress_rises_to_the_size_of_the_tensors(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = tiny_llama.write(tmp_path)
    load_model(folder, device=CPU, dtype=None, on_progress=lambda *progress: seen.append(progress))
    total = sum(tensor.nbytes for tensor in tiny_llama.tensors(tiny_llama.CONFIG).values())
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("checkpoint", "asked", "served"),
    [
        ("float16", None, torch.bfloat16),
        ("bfloat16", None, torch.bfloat16),
        ("float32", None, torch.float32),
        ("bfloat16", torch.float32, torch.float32),
    ],
)
def test_the_dtype_is_what_was_asked_for_or_what_suits_the_checkpoint(
    tmp_path: Path, checkpoint: str, asked: torch.dtype | None, served: torch.dtype
) -> None:
    folder = tiny_llama.write(tmp_path, torch_dtype=checkpoint)
    model = load_model(folder, device=CPU, dtype=asked)
    assert model.dtype == served
    assert model.allocate_kv_cache(2, 16).storage.dtype == served


def test_a_block_takes_the_bytes_it_says(tmp_path: Path) -> None:
    model = load_model(tiny_llama.write(tmp_path), device=CPU, dtype=None)
    cache = model.allocate_kv_cache(num_blocks=5, block_tokens=32)
    assert cache.storage.nbytes == 5 * model.kv_bytes_per_block(32)
    assert (cache.num_blocks, cache.block_tokens) == (5, 32)
    assert (cache.num_kv_heads, cache.head_dim) == (2, 16)


def test_a_step_may_want_no_logits(tmp_path: Path) -> None:
    model = load_model(tiny_llama.write(tmp_path), device=CPU, dtype=None)
    cache = model.allocate_kv_cache(num_blocks=5, block_tokens=16)
    batch = Batch(
        token_ids=torch.tensor([1, 2, 3]),
        positions=torch.arange(3),
        slots=torch.arange(3),
        query_starts=torch.tensor([0, 3]),
        context_lengths=torch.tensor([3]),
        block_tables=torch.tensor([[0]]),
        logit_rows=torch.tensor([], dtype=torch.int64),
    )
    assert model.forward(batch, cache).shape == (0, model.config.vocab_size)
    assert cache.storage.count_nonzero() > 0


@pytest.mark.parametrize("block_tokens", [0, -16, 24, 512])
def test_a_block_size_that_does_not_fit_is_refused(tmp_path: Path, block_tokens: int) -> None:
    model = load_model(tiny_llama.write(tmp_path), device=CPU, dtype=None)
    with pytest.raises(InvalidArgumentError, match=f"block_tokens is {block_tokens}"):
        model.allocate_kv_cache(num_blocks=5, block_tokens=block_tokens)


def test_several_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnimplementedError, match="num_devices is 2"):
        load_model(tiny_llama.write(tmp_path), device=CPU, dtype=None, rank=1, size=2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "mamba"),
        ("model_type", "paged"),  # a file beside the models, but no architecture
        ("model_type", ["llama"]),
        ("model_type", None),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("hidden_act", "gelu"),
        ("attention_bias", 1),
    ],
)
def test_what_no_model_file_runs_is_refused_by_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^config\.json: {key} is ") as caught:
        load_model(tiny_llama.write(tmp_path, **{key: value}), device=CPU, dtype=None)
    assert caught.value.metadata == {"file": "config.json", "field": key}


KEYS = [
    *tiny_llama.CONFIG,
    *("rope_scaling", "rope_parameters", "partial_rotary_factor", "layer_types", "dtype"),
    *("sliding_window", "use_sliding_window", "max_window_layers", "attention_bias", "mlp_bias"),
    *("quantization_config", "use_fp8_e4m3"),
]
JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**80,
    float("inf"),
    "x",
    [],
    {},
    [{}],
    [[]],
    {"type": "yarn"},
]
JUNK += [{"type": "yarn", "factor": 1e29}, {"rope_type": [], "rope_theta": {}}, {"type": "llama3"}]


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_no_value_of_a_key_does_worse_than_a_refusal(tmp_path: Path, model_type: str) -> None:
    base = tiny_llama.CONFIG | {"model_type": model_type, "architectures": None}
    for key in KEYS:
        for value in JUNK:
            config = base | {"use_sliding_window": True} | {key: value}
            (tmp_path / "config.json").write_text(json.dumps(config))
            with contextlib.suppress(InvalidArgumentError):
                assert read_config(tmp_path).max_context > 0


def test_another_architecture_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llama9.py").write_text(
        "from services.worker.models.llama import PLACEMENT, Decoder, read_config\n"
        "ARCHITECTURE = 'Llama9ForCausalLM'\n"
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(model_types, "_MODELS", tmp_path)
    monkeypatch.setattr(models, "_ARCHITECTURES", models._model_files())
    names = {"model_type": "llama9", "architectures": ["Llama9ForCausalLM"]}
    model = load_model(tiny_llama.write(tmp_path, **names), device=CPU, dtype=None)
    assert model.config.model_type == "llama9"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(tiny_llama.CONFIG))
    with pytest.raises(NotFoundError, match=r"neither model\.safetensors nor"):
        load_model(tmp_path, device=CPU, dtype=None)

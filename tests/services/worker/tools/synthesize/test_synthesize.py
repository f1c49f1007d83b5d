"""A synthesized model loads, speaks, and has a tokenizer like any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.tokenizer_config import TokenizerConfig
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.models import load_model, read_config
from services.worker.tools.synthesize.__main__ import main
from services.worker.tools.synthesize.shapes import SHAPES
from tests.services.worker.paged_sequences import PagedSequences


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthesized") / "tiny"
    assert main(["--shape", "tiny", f"--output={folder}"]) == 0
    return folder


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_its_shape_is_the_one_asked_for(tiny: Path) -> None:
    config, shape = read_config(tiny), SHAPES["tiny"]
    assert (config.hidden_size, config.num_layers) == (shape.hidden_size, shape.num_layers)
    assert (config.num_heads, config.num_kv_heads) == (shape.num_heads, shape.num_kv_heads)
    assert (config.vocab_size, config.max_context) == (shape.vocab_size, shape.max_context)
    assert config.head_dim == shape.head_dim
    assert config.tie_word_embeddings


def test_the_default_has_the_default_models_shape() -> None:
    shape = SHAPES["default"]
    assert (shape.hidden_size, shape.num_layers, shape.vocab_size) == (576, 30, 49_152)


@pytest.mark.parametrize("name", ["self_attn.q_proj", "mlp.down_proj"])
def test_matrices_are_normal_and_keep_the_size_of_activations(tiny: Path, name: str) -> None:
    dialect = choose_dialect(read_config(tiny).quantization)
    weight = read_matrix(CheckpointReader(tiny), dialect, f"model.layers.1.{name}")
    assert isinstance(weight, Fp8Matrix)
    assert weight.inputs is not None and weight.inputs.static_scale is not None
    values = weight.expand(torch.float32)
    assert values.std() == pytest.approx(values.shape[1] ** -0.5, rel=0.03)
    assert values.mean().abs() < 0.03 * values.std()
    within = (values.abs() < values.std()).float().mean()
    assert within == pytest.approx(0.683, abs=0.02)


def test_it_loads_and_its_logits_are_sane(tiny: Path, device: torch.device) -> None:
    model = load_model(tiny, device=device, dtype=torch.float32)
    logits, made = PagedSequences(model).greedy([5, 6, 7, 8], 20)
    assert logits.isfinite().all()
    assert 0.3 < logits.std() < 3
    assert len(set(made)) > 3


def test_every_id_has_a_text_and_every_byte_an_id(tiny: Path) -> None:
    backend = HuggingFaceBackend(tiny / "tokenizer.json", TokenizerConfig.read(tiny))
    assert backend.vocabulary_size == SHAPES["tiny"].vocab_size
    assert backend.eos_id == 2
    for text in ("Grüße, 世界!\n", "a b\tc\x00"):
        (encoded,) = backend.encode([text], add_special_tokens=True)
        assert backend.decode(encoded.ids, skip_special_tokens=True) == text
    assert all(backend.token_bytes(token_id) for token_id in range(3, backend.vocabulary_size))


def test_the_chat_template_is_chatml(tiny: Path) -> None:
    template = json.loads((tiny / "tokenizer_config.json").read_text())["chat_template"]
    assert "<|im_start|>assistant" in template


def test_equal_seeds_give_equal_files_and_nothing_is_written_twice(
    tiny: Path, tmp_path: Path
) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    main(["--shape=tiny", f"--output={same}"])
    main(["--shape=tiny", f"--output={other}", "--seed=1"])
    assert digest(same) == digest(tiny) != digest(other)
    written_at = (same / "model.safetensors").stat().st_mtime_ns
    main(["--shape=tiny", f"--output={same}"])
    assert (same / "model.safetensors").stat().st_mtime_ns == written_at
    main(["--shape=tiny", f"--output={same}", "--seed=1"])
    assert digest(same) == digest(other)

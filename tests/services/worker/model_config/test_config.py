"""ModelConfig.of: what it takes, and what it refuses by file and key."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import InvalidArgumentError, NotFoundError
from services.worker.model_config import ModelConfig, ModelFiles, SamplingDefaults
from tests.services.worker.tiny_llama import CONFIG


def write(folder: Path, generation: Mapping[str, Any] | None = None, /, **changes: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def read(folder: Path) -> ModelConfig:
    return ModelConfig.of(ModelFiles.read(folder))


def test_a_friendli_checkpoint_is_read(checkpoints: Path) -> None:
    config = read(checkpoints / "fmo-l1")
    assert (config.hidden_size, config.intermediate_size) == (256, 384)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 2, 32)
    assert (config.vocab_size, config.max_context, config.dtype) == (320, 512, "float16")
    assert (config.bos_id, config.eos_ids) == (0, (1,))
    assert config.quantization == {
        "activation_scheme": "static",
        "quant_method": "fp8",
        "use_fp8_e4m3": True,
    }
    assert config.sampling == SamplingDefaults()


def test_the_names_of_newer_transformers_are_read(tmp_path: Path) -> None:
    changes = {"dtype": "float16", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    config = read(write(tmp_path, None, **changes))
    assert (config.dtype, config.rope.theta) == ("float16", 5e5)


def test_what_is_left_out_has_the_usual_value(tmp_path: Path) -> None:
    folder = write(tmp_path, head_dim=None, num_key_value_heads=None, rope_theta=None)
    config = read(folder)
    assert (config.head_dim, config.num_kv_heads, config.rope.theta) == (8, 6, 10000.0)


def test_the_ends_of_both_files_count(tmp_path: Path) -> None:
    config = read(write(tmp_path, {"eos_token_id": [2, 7]}, eos_token_id=2))
    assert config.eos_ids == (2, 7)


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, SamplingDefaults()),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
            SamplingDefaults(temperature=0.6, top_p=0.9),
        ),
        ({"do_sample": True, "top_k": 40}, SamplingDefaults(top_k=40)),
        ({"do_sample": True, "temperature": 0}, SamplingDefaults(temperature=0.0)),
    ],
)
def test_sampling_defaults_need_do_sample(
    tmp_path: Path, generation: dict[str, Any], expected: SamplingDefaults
) -> None:
    assert read(write(tmp_path, generation)).sampling == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "gelu"),
        ("torch_dtype", "int8"),
        ("vocab_size", None),
        ("vocab_size", -1),
        ("hidden_size", True),
        ("hidden_size", 2**40),
        ("num_hidden_layers", 2.5),
        ("num_hidden_layers", 2**31 - 1),
        ("num_key_value_heads", 4),
        ("head_dim", 15),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", "small"),
        ("rope_theta", -1.0),
        ("eos_token_id", "</s>"),
        ("eos_token_id", 96),
        ("tie_word_embeddings", "yes"),
        ("quantization_config", "fp8"),
    ],
)
def test_what_cannot_be_run_is_refused_by_file_and_key(
    tmp_path: Path, key: str, value: object
) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^config\.json: {key} is ") as caught:
        read(write(tmp_path, None, **{key: value}))
    assert caught.value.metadata == {"file": "config.json", "field": key}


@pytest.mark.parametrize(
    "generation", [{"top_p": 1.5}, {"top_k": -1}, {"top_k": 0.5}, {"temperature": -1}]
)
def test_impossible_defaults_are_refused(tmp_path: Path, generation: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^generation_config\.json: "):
        read(write(tmp_path, generation | {"do_sample": True}))


@pytest.mark.parametrize("content", ["", "[]", "{", '"' + "[" * 100_000, "[" * 100_000])
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidArgumentError, match=r"^config\.json: is not"):
        read(tmp_path)


def test_a_folder_without_config_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"config\.json does not exist"):
        read(tmp_path)


def test_reading_a_configuration_imports_no_torch() -> None:
    code = "import sys, services.worker.model_config; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"

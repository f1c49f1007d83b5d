"""What is said of a checkpoint, by its files alone."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from services.worker.stored_tensors import StoredTensor
from services.worker.tools.inspect.__main__ import main
from services.worker.tools.inspect.dialect import describe_dialect
from services.worker.tools.shards import plan_shards, write_sparse_shards
from tests.services.worker import llama2
from tests.services.worker.tools.test_shards import declared_llama2


@pytest.fixture(scope="module")
def seventy_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Friendli's Llama-2-70b-chat-hf-fp8, as files with holes."""
    folder = tmp_path_factory.mktemp("models") / "Llama-2-70b-chat-hf-fp8"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(llama2.config_json("70b")))
    (folder / "tokenizer.json").write_text("{}")
    write_sparse_shards(folder, plan_shards(declared_llama2("70b")))
    return folder


def inspected(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    assert main([str(folder), "--json", *flags]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_llama_2_70b(seventy_b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(seventy_b, capsys)
    assert found["num_parameters"] == 68_976_648_192
    assert (found["num_bytes"], found["num_tensors"]) == (69_502_259_584, 1_843)
    assert found["num_files"] == 8
    assert found["dialect"] == {
        "family": "friendli",
        "weights": "I8, a scale for each tensor",
        "inputs": "static",
        "kv_cache": None,
        "num_quantised": 560,
    }
    assert found["warnings"] == []


def test_plans_are_those_of_the_published_table(
    seventy_b: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = inspected(seventy_b, capsys)["devices"]
    assert isinstance(devices, list)
    plans = {(plan["name"], plan["num_devices"]): plan for plan in devices}
    for key, thousands in {
        ("80 GB", 1): 16.2,
        ("80 GB", 2): 245,
        ("80 GB", 8): 1610,
        ("141 GB", 1): 194,
        ("141 GB", 4): 1410,
    }.items():
        assert plans[key]["kv_tokens"] / 1000 == pytest.approx(thousands, rel=0.02)
        assert plans[key]["kv_tokens_with_fp8_cache"] == pytest.approx(
            2 * plans[key]["kv_tokens"], abs=1
        )
    assert {number for _, number in plans} == {1, 2, 4, 8}
    assert len(plans) == 12  # this machine is the third


def test_a_person_reads_a_table(seventy_b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(seventy_b), "--num-devices=2"]) == 0
    text = capsys.readouterr().out
    assert "LlamaForCausalLM (llama)" in text and "friendli; I8" in text
    rows = [line for line in text.splitlines() if line.startswith("2 ")]
    assert len(rows) == 3 and "160 KiB" in rows[0] and "32.37 GiB" in rows[0]


def test_the_command_takes_a_moment(seventy_b: Path) -> None:
    """In seconds of a processor, so that a busy machine changes nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "octavo", "inspect", str(seventy_b)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_what_is_odd_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {**llama2.config_json("7b"), "model_type": "mamba", "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    write_sparse_shards(tmp_path, plan_shards(declared_llama2("7b"), 5 * 10**9))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    warnings = inspected(tmp_path, capsys)["warnings"]
    assert isinstance(warnings, list)
    assert [
        words
        for words in (
            "model_type 'mamba' is not served",
            "neither tokenizer.json nor tokenizer.model",
            "pytorch_model.bin is a pickle",
            "names 'model-00002-of-00002.safetensors', which does not exist",
            "are in no file",
            "no chat template",
        )
        if not any(words in warning for warning in warnings)
    ] == []


@pytest.mark.parametrize(
    ("flags", "content", "status", "problem"),
    [
        (["--num-devices=0"], "{}", 2, '--num-devices is "0"'),
        ([], None, 1, "config.json does not exist"),
        ([], "[]", 2, "config.json: is not a JSON object"),
        ([], json.dumps(llama2.config_json("7b")), 1, "holds no *.safetensors"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    content: str | None,
    *,
    status: int,
    problem: str,
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert main([str(tmp_path), *flags]) == status
    err = capsys.readouterr().err
    assert err.startswith("octavo inspect: ") and problem in err and err.count("\n") == 1


def tensors_of(
    matrix: str, shape: tuple[int, ...], **others: tuple[int, ...]
) -> list[StoredTensor]:
    found = [StoredTensor(name="l.q_proj.weight", dtype=matrix, shape=shape, num_bytes=1)]
    return found + [
        StoredTensor(name=f"l.q_proj.{name}", dtype="F32", shape=scale, num_bytes=1)
        for name, scale in others.items()
    ]


@pytest.mark.parametrize(
    ("config", "tensors", "words"),
    [
        ({}, tensors_of("BF16", (4, 4)), "unquantised; BF16"),
        (
            {"use_fp8_e4m3": True},
            tensors_of("I8", (256, 4), weight_scale=(), in_scale=()),
            "friendli; I8, a scale for each tensor; inputs static",
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            tensors_of("F8_E4M3", (256, 4), weight_scale=(1,), input_scale=(1,)),
            "autofp8; F8_E4M3, a scale for each tensor; inputs static",
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            tensors_of("F8_E4M3", (256, 256), weight_scale_inv=(2, 2)),
            "deepseek; F8_E4M3, a scale for each block; inputs dynamic",
        ),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            tensors_of("F8_E4M3", (256, 4), weight_scale=(256, 1)),
            "compressed-tensors; F8_E4M3, a scale for each output; inputs dynamic",
        ),
        (
            {"quantization": {"quant_algo": "FP8"}},
            tensors_of("F8_E4M3", (256, 4), weight_scale=(), input_scale=(), k_scale=()),
            "modelopt; F8_E4M3, a scale for each tensor; inputs static; scales for keys and values",
        ),
        (
            {"quantization": {"quant_algo": "fp8_pb_wo"}},
            tensors_of("F8_E4M3", (128, 256), weight_scale=(1, 1, 2, 1)),
            "modelopt; F8_E4M3, a scale for each block; inputs in 16 bits",
        ),
    ],
)
def test_dialects_are_told_apart(
    config: dict[str, object], tensors: list[StoredTensor], words: str
) -> None:
    assert describe_dialect(config, tensors).words == words

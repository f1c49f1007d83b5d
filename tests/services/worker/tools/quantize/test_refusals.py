"""What cannot be done is one line, and nothing half done is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.worker.tools.quantize import quantized
from services.worker.tools.quantize.__main__ import main
from services.worker.tools.quantize.folder import staged

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def changed(source: Path, tmp_path: Path) -> Path:
    """A copy of the source that a test may change."""
    return shutil.copytree(source, tmp_path / "source")


def problem_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.splitlines()[-1]
    assert line.startswith("octavo quantize: ")
    return status, line


def set_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_tensor(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name, None)
    save_file(tensors | ({} if tensor is None else {name: tensor}), folder / "model.safetensors")


def test_a_quantised_source(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fixture in ("fmo-l0", "ct-fp8", "modelopt-fp8", "deepseek-block"):
        status, line = problem_of(capsys, checkpoints / fixture, tmp_path / "fp8")
        assert status == 2 and "quantised already" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.full((80, 48), float("nan")), "holds a value that is not finite"),
        (torch.full((80, 48), float("inf")), "holds a value that is not finite"),
        (torch.zeros(80, 47), "has the shape [80, 47]"),
        (torch.zeros(80, 48, dtype=torch.int8), "config.json names no quantisation"),
        (None, "is missing"),
    ],
)
@pytest.mark.parametrize("inputs", ["static", "dynamic"])
def test_a_wrong_tensor(
    changed: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    tensor: torch.Tensor | None,
    problem: str,
    inputs: str,
) -> None:
    set_tensor(changed, NAME, tensor)
    before = sorted(changed.parent.iterdir())
    status, line = problem_of(capsys, changed, changed.parent / "fp8", f"--inputs={inputs}")
    assert status == 2 and problem in line and NAME in line
    assert sorted(changed.parent.iterdir()) == before


def test_a_tensor_that_no_model_reads(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_tensor(changed, "model.layers.0.mlp.up_proj.weight_scale", torch.ones(1))
    status, line = problem_of(capsys, changed, changed.parent / "fp8")
    assert status == 2 and "is not one that this model reads" in line


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'"),
        ({"use_fp8_e4m3": True}, "quantised already"),
        ({"vocab_size": 100}, "has the shape [320, 48]"),
    ],
)
def test_a_wrong_config(
    changed: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], problem: str
) -> None:
    set_config(changed, **change)
    status, line = problem_of(capsys, changed, changed.parent / "fp8")
    assert status == 2 and problem in line


def test_a_norm_that_is_not_finite(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "model.layers.1.input_layernorm.weight"
    set_tensor(changed, name, torch.full((48,), float("nan")))
    status, line = problem_of(capsys, changed, changed.parent / "fp8")
    assert status == 2 and "layers.1" in line and "not finite" in line


def test_no_such_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, line = problem_of(capsys, tmp_path / "absent", tmp_path / "fp8")
    assert status == 1 and "does not exist" in line
    assert not list(tmp_path.iterdir())


def test_a_scheme_that_the_dialect_lacks(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, line = problem_of(capsys, source, tmp_path / "fp8", "--weights=channel")
    assert status == 2 and "--weights" in line and "compressed-tensors" in line


@pytest.mark.parametrize(
    ("flag", "problem"),
    [("--calibration", "--calibration"), ("--perplexity", "at least 2 tokens")],
)
def test_an_empty_text(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, problem: str
) -> None:
    (tmp_path / "text").touch()
    status, line = problem_of(capsys, source, tmp_path / "fp8", f"{flag}={tmp_path / 'text'}")
    assert status == 2 and problem in line
    assert not (tmp_path / "fp8").exists()


def test_a_tokenizer_of_another_model(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_config(changed, vocab_size=100)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        set_tensor(changed, name, torch.zeros(100, 48))
    status, line = problem_of(capsys, changed, changed.parent / "fp8")
    assert status == 2 and "tokenizer" in line and "100" in line


def test_a_destination_is_replaced_where_the_flag_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fp8"
    assert main([str(source), str(folder), "--inputs=dynamic"]) == 0
    (folder / "left").touch()
    capsys.readouterr()
    status, line = problem_of(capsys, source, folder)
    assert status == 1 and "--overwrite" in line and (folder / "left").exists()
    assert main([str(source), str(folder), "--inputs=dynamic", "--overwrite"]) == 0
    assert not (folder / "left").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["fp8"]


def test_only_a_models_folder_is_replaced(
    source: Path, changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").touch()
    for destination in (tmp_path / "photos", tmp_path / "photos" / "one"):
        status, line = problem_of(capsys, source, destination, "--overwrite")
        assert status == 1 and "is not replaced" in line
    for destination in (changed, tmp_path):
        status, line = problem_of(capsys, changed, destination, "--overwrite")
        assert status == 1 and "holds the source" in line
    assert (changed / "config.json").exists() and (tmp_path / "photos" / "one").exists()


def test_an_interrupted_run_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quantized, "write_documents", interrupt)  # all tensors are written
    assert main([str(source), str(tmp_path / "deep" / "fp8"), "--inputs=dynamic"]) == 130
    assert not list((tmp_path / "deep").iterdir())


def test_a_killed_run_is_cleared_away_by_the_next(source: Path, tmp_path: Path) -> None:
    half_done = tmp_path / ".quantizing-fp8"
    (half_done / "built").mkdir(parents=True)
    (half_done / "built" / "model.safetensors").write_bytes(b"cut off")
    assert main([str(source), str(tmp_path / "fp8"), "--inputs=dynamic"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fp8"]


def test_two_runs_do_not_write_the_same_folder(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with staged(tmp_path / "fp8") as other:
        status, line = problem_of(capsys, source, tmp_path / "fp8")
        assert status == 1 and "another run" in line
        assert other.built.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["fp8"]


def test_a_place_that_cannot_be_written(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    status, line = problem_of(capsys, source, tmp_path / "file" / "fp8")
    assert status == 1 and str(tmp_path / "file") in line

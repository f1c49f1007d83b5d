"""What is written loads, computes almost what the source does, and has the form of its dialect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.matrix_source import MatrixSource, find_matrix
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.models import load_model, read_config
from services.worker.tools.quantize.__main__ import main
from services.worker.tools.text_ids import encode_text
from tests.services.worker.models.oracle import SHAPE, write_random
from tests.services.worker.paged_sequences import PagedSequences
from tests.services.worker.tools.quantize.conftest import NUM_TOKENS, add_tokenizer

CPU = torch.device("cpu")
PROMPT = [(7 * n + 3) % NUM_TOKENS for n in range(60)]
LAYER = "model.layers.1"
FLAGS = ("dialect", "inputs", "weights")

# (dialect, inputs, weights): all that there are.
FRIENDLI = [
    ("friendli", "static", "tensor"),
    ("friendli", "dynamic", "tensor"),
    ("friendli", "dynamic", "channel"),
]
COMPRESSED = [
    ("compressed-tensors", inputs, weights)
    for inputs in ("static", "dynamic")
    for weights in ("tensor", "channel")
]


def quantize(source: Path, destination: Path, *flags: str) -> Path:
    assert main([str(source), str(destination), *flags]) == 0
    return destination


def flags_of(scheme: tuple[str, str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in zip(FLAGS, scheme, strict=True)]


def logits_of(folder: Path, *, fp8_activations: bool = False) -> torch.Tensor:
    model = load_model(folder, device=CPU, dtype=torch.float32, fp8_activations=fp8_activations)
    return PagedSequences(model, num_blocks=8).logits_alone(PROMPT, 20)


def rms_change(folder: Path, source: Path, *, fp8_activations: bool) -> float:
    """Of logits, in their standard deviations."""
    expected = logits_of(source)
    change = logits_of(folder, fp8_activations=fp8_activations) - expected
    return float(change.square().mean().sqrt() / expected.std())


def matrix_of(folder: Path, name: str) -> MatrixSource:
    reader = CheckpointReader(folder)
    rows, columns = reader.info(f"{name}.weight").shape
    dialect = choose_dialect(read_config(folder).quantization)
    return find_matrix(reader, dialect, name, (rows, columns))


@pytest.mark.parametrize("scheme", FRIENDLI + COMPRESSED, ids="-".join)
def test_every_scheme_loads_and_is_near_its_source(
    source: Path, tmp_path: Path, scheme: tuple[str, str, str]
) -> None:
    folder = quantize(source, tmp_path / "fp8", *flags_of(scheme))
    assert rms_change(folder, source, fp8_activations=False) < 0.12
    assert rms_change(folder, source, fp8_activations=True) < 0.2
    found = matrix_of(folder, f"{LAYER}.mlp.up_proj")
    assert found.scale is not None and found.scale.kind == scheme[2]
    assert found.inputs is not None
    assert (found.inputs.static_scale is not None) == (scheme[1] == "static")


@pytest.mark.parametrize("fixture", ["fmo-l0", "fmo-l2", "ct-fp8"])
def test_the_form_is_that_of_the_dialects_own_writer(
    checkpoints: Path, tmp_path: Path, fixture: str
) -> None:
    """A fixture is expanded to 16 bits, and quantised again: names, types and shapes are equal."""
    original, source = checkpoints / fixture, tmp_path / "source"
    expand(original, source)
    is_friendli = fixture.startswith("fmo")
    folder = quantize(
        source,
        tmp_path / "fp8",
        "--dialect=" + ("friendli" if is_friendli else "compressed-tensors"),
        "--inputs=" + ("dynamic" if fixture == "fmo-l2" else "static"),
    )
    assert form_of(folder) == form_of(original)
    config, theirs = (json.loads((each / "config.json").read_text()) for each in (folder, original))
    assert config.get("use_fp8_e4m3") == theirs.get("use_fp8_e4m3")
    ours = config["quantization_config"]
    assert ours.items() <= without_observers(theirs["quantization_config"], ours).items()


def expand(folder: Path, target: Path) -> None:
    """A fixture in 16 bits."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    reader, dialect = CheckpointReader(folder), choose_dialect(read_config(folder).quantization)
    tensors = {}
    for name in reader.tensors:
        owner, _, kind = name.rpartition(".")
        if kind == "weight" and len(reader.info(name).shape) == 2:
            matrix = read_matrix(reader, dialect, owner)
            dtype = getattr(torch, config["torch_dtype"])
            tensors[name] = matrix.expand(dtype) if isinstance(matrix, Fp8Matrix) else matrix
        elif kind == "weight":
            tensors[name] = reader.read(name)
    save_file(tensors, target / "model.safetensors")
    for key in ("quantization_config", "use_fp8_e4m3"):
        config.pop(key, None)
    (target / "config.json").write_text(json.dumps(config))


def form_of(folder: Path) -> dict[str, Any]:
    infos = CheckpointReader(folder).tensors.items()
    return {name: (info.dtype, info.shape) for name, info in infos}


def without_observers(theirs: Any, ours: Any) -> Any:
    """Theirs, with the keys that ours has; how a scale was observed is the writer's own."""
    if not isinstance(ours, dict):
        return theirs
    return {
        key: ours[key] if key == "observer" else without_observers(theirs[key], ours[key])
        for key in ours
    }


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
def test_scales_of_inputs_are_what_transformers_sees(
    tmp_path: Path, checkpoints: Path, kind: Any
) -> None:
    source, text = tmp_path / "source", "A text of some length, said again. " * 40
    theirs = write_random(source, kind(**SHAPE | {"vocab_size": NUM_TOKENS}))
    add_tokenizer(source, checkpoints)
    (tmp_path / "text").write_text(text)
    flags = [f"--calibration={tmp_path / 'text'}", "--calibration-tokens=700"]
    folder = quantize(source, tmp_path / "fp8", *flags)
    largest: dict[str, float] = {}

    def note(name: str, inputs: torch.Tensor) -> None:
        largest[name] = max(largest.get(name, 0.0), float(inputs.abs().max()))

    for name, module in theirs.named_modules():
        if name.endswith("_proj"):
            module.register_forward_pre_hook(lambda _, x, name=name: note(name, x[0]))
    for window in windows_of(source, text):
        with torch.inference_mode():
            theirs(torch.tensor([window]))
    scales = load_file(folder / "model.safetensors")
    for name, value in largest.items():
        assert float(scales[f"{name}.in_scale"]) * 448 == pytest.approx(value, rel=1e-4), name
    assert len(largest) == 3 * 7


def windows_of(folder: Path, text: str) -> list[list[int]]:
    """512 ids and the rest of 700, each begun by the BOS that the tokenizer puts first, if any."""
    first, second = encode_text(folder, text).windows(512)[:2]
    return [list(first), list(second[:188])]


def test_matrices_that_are_fused_share_a_scale(source: Path, tmp_path: Path) -> None:
    tensors = load_file(quantize(source, tmp_path / "fp8") / "model.safetensors")
    for group in (["q_proj", "k_proj", "v_proj"], ["gate_proj", "up_proj"]):
        part = "self_attn" if group[0] == "q_proj" else "mlp"
        for kind in ("weight_scale", "in_scale"):
            assert len({float(tensors[f"{LAYER}.{part}.{name}.{kind}"]) for name in group}) == 1


def test_a_row_of_zeros_and_tiny_rows_survive(source: Path, tmp_path: Path) -> None:
    name = f"{LAYER}.mlp.up_proj.weight"
    changed = shutil.copytree(source, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors[name][0] = 0
    tensors[name][1] *= 1e-6  # its scale is subnormal in F16
    save_file(tensors, changed / "model.safetensors")
    folder = quantize(changed, tmp_path / "fp8", "--inputs=dynamic")
    matrix = read_matrix(
        CheckpointReader(folder),
        choose_dialect(read_config(folder).quantization),
        name.removesuffix(".weight"),
    )
    assert isinstance(matrix, Fp8Matrix)
    rows = matrix.expand(torch.float32)[:3]
    assert torch.equal(rows[0], torch.zeros_like(rows[0]))
    for row, expected in zip(rows[1:], tensors[name][1:3], strict=True):
        assert (row - expected).abs().max() < 0.07 * expected.abs().max()


def test_shards_and_other_files_are_the_sources(source: Path, tmp_path: Path) -> None:
    sharded = shutil.copytree(source, tmp_path / "source")
    named = sorted(load_file(source / "model.safetensors").items())
    (sharded / "model.safetensors").unlink()
    files = {f"model-{n + 1:05d}-of-00003.safetensors": dict(named[n::3]) for n in range(3)}
    for file, part in files.items():
        save_file(part, sharded / file)
    weight_map = {name: file for file, part in files.items() for name in part}
    index = "model.safetensors.index.json"
    (sharded / index).write_text(json.dumps({"weight_map": weight_map}))
    (sharded / "LICENSE").write_text("terms")
    (sharded / "pytorch_model.bin").write_bytes(b"a pickle")
    folder = quantize(sharded, tmp_path / "fp8")
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in sharded.iterdir()} - {"pytorch_model.bin"}
    for name in ("generation_config.json", "tokenizer.json", "LICENSE"):
        assert (folder / name).read_bytes() == (sharded / name).read_bytes()
    written = json.loads((folder / index).read_text())["weight_map"]
    assert weight_map.items() <= written.items()
    assert written[f"{LAYER}.mlp.up_proj.in_scale"] == weight_map[f"{LAYER}.mlp.up_proj.weight"]
    assert torch.equal(logits_of(folder), logits_of(quantize(source, tmp_path / "whole")))


def test_json_says_what_was_done(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("Words that are scored. " * 8)
    quantize(source, tmp_path / "fp8", f"--perplexity={text}", "--context=64", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["dialect"], found["inputs"], found["weights"]) == ("friendli", "static", "tensor")
    assert found["num_matrices"] == 3 * 7 and found["num_calibration_tokens"] > 500
    assert found["num_bytes"] < 0.5 * found["source_bytes"]
    figures = [found["perplexity"][name] for name in ("before", "after", "after_w8a8")]
    assert len({figure["perplexity"] for figure in figures}) == 3
    for figure in figures:
        assert figure["num_tokens"] == figures[0]["num_tokens"] > 100
        assert figure["perplexity"] == pytest.approx(figures[0]["perplexity"], rel=0.1)


def test_a_person_reads_what_was_done(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(source, tmp_path / "fp8", "--inputs=dynamic")
    first, second = capsys.readouterr().out.splitlines()
    assert "21 matrices in FP8, friendli, dynamic inputs, a scale for each channel" in first
    assert "became" in second

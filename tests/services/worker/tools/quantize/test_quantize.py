"""What is written is the 16-bit model, rounded once, in the layout that was asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from octavo.status_line import StatusLine
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.models import load_model, read_config
from services.worker.tools.quantize.__main__ import main
from services.worker.tools.quantize.calibrate import largest_inputs
from services.worker.tools.synthesize.__main__ import main as synthesize
from services.worker.tools.synthesize.metadata import metadata_of
from services.worker.tools.synthesize.shapes import SHAPES
from tests.services.worker.paged_sequences import PagedSequences
from tests.services.worker.tools.prepare.gguf_writer import F16, gguf_bytes

CPU = torch.device("cpu")
LAYER = "model.layers.1"
MATRICES = [
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
]
TEXT = "The sea froze for the first time in living memory, and the ships stayed away. " * 4


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    assert synthesize(["--shape=tiny", "--dialect=none", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("dialect", ["friendli", "compressed-tensors"])
@pytest.mark.parametrize("kind", ["static", "dynamic", "channel"])
def test_every_matrix_is_rounded_once(
    plain: Path, text: Path, tmp_path: Path, dialect: str, kind: str
) -> None:
    flags = {
        "static": [f"--calibration={text}"],
        "dynamic": [],
        "channel": ["--weights=channel"],
    }[kind]
    folder = tmp_path / "fp8"
    assert main([str(plain), str(folder), f"--dialect={dialect}", *flags]) == 0
    config, original = read_config(folder), load_file(plain / "model.safetensors")
    for name in MATRICES:
        reader = CheckpointReader(folder)
        matrix = read_matrix(reader, choose_dialect(config.quantization), f"{LAYER}.{name}")
        assert isinstance(matrix, Fp8Matrix)
        assert matrix.scale.kind == ("channel" if kind == "channel" else "tensor")
        is_static = matrix.inputs is not None and matrix.inputs.static_scale is not None
        assert is_static == (kind == "static")
        values = original[f"{LAYER}.{name}.weight"].float()
        scale = matrix.scale.of_rows(0, len(values))
        expected = (values / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
        torch.testing.assert_close(matrix.expand(torch.float32), expected, rtol=0, atol=0)
        largest = values.abs().amax(1, keepdim=True) if kind == "channel" else values.abs().max()
        assert (scale >= largest / 448 * 0.99).all()
    kept = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", f"{LAYER}.input_layernorm.weight"):
        assert torch.equal(kept[name], original[name])


def test_matrices_with_one_input_share_their_scales(
    plain: Path, text: Path, tmp_path: Path
) -> None:
    assert main([str(plain), str(tmp_path), f"--calibration={text}"]) == 0
    tensors = load_file(tmp_path / "model.safetensors")
    for kind in ("weight_scale", "in_scale"):
        scale = {name: float(tensors[f"{LAYER}.{name}.{kind}"]) for name in MATRICES}
        assert len({scale[f"self_attn.{name}_proj"] for name in "qkv"}) == 1
        assert scale["mlp.gate_proj"] == scale["mlp.up_proj"] != scale["mlp.down_proj"]


def test_static_scales_are_the_largest_inputs(plain: Path, text: Path, tmp_path: Path) -> None:
    with (tmp_path / "progress").open("w") as progress:
        largest = largest_inputs(plain, text.read_text(), StatusLine(progress))
    assert {name.removeprefix("model.layers.0.") for name in largest if ".0." in name} == set(
        MATRICES
    )
    assert main([str(plain), str(tmp_path / "fp8"), f"--calibration={text}"]) == 0
    tensors = load_file(tmp_path / "fp8" / "model.safetensors")
    for name, value in largest.items():
        assert float(tensors[f"{name}.in_scale"]) == pytest.approx(value / 448, rel=1e-6)


def test_it_is_served_as_well_as_before(plain: Path, text: Path, tmp_path: Path) -> None:
    assert main([str(plain), str(tmp_path), f"--calibration={text}"]) == 0
    assert (tmp_path / "tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()
    before, after = (
        PagedSequences(load_model(folder, device=CPU, dtype=torch.float32)).greedy([5, 6, 7], 1)[0]
        for folder in (plain, tmp_path)
    )
    assert 0 < (before - after).std() < 0.1 * before.std()


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_becomes_the_same_model(tmp_path: Path, *, tied: bool) -> None:
    shape = dataclasses.replace(SHAPES["tiny"], num_layers=1)
    rng = np.random.default_rng(0)

    def tensor(*sizes: int) -> tuple[tuple[int, ...], int, bytes]:
        values = rng.normal(scale=sizes[-1] ** -0.5, size=sizes).astype(np.float16)
        return sizes, F16, values.tobytes()

    hidden, width, kv_width = shape.hidden_size, shape.intermediate_size, 2 * shape.head_dim
    sizes = {"attn_q": (hidden, hidden), "attn_k": (kv_width, hidden), "attn_v": (kv_width, hidden),
             "attn_output": (hidden, hidden), "ffn_gate": (width, hidden),
             "ffn_up": (width, hidden), "ffn_down": (hidden, width),
             "attn_norm": (hidden,), "ffn_norm": (hidden,)}  # fmt: skip
    tensors = {f"blk.0.{name}.weight": tensor(*size) for name, size in sizes.items()}
    tensors |= {"token_embd.weight": tensor(1024, hidden), "output_norm.weight": tensor(hidden)}
    if not tied:
        tensors["output.weight"] = tensor(1024, hidden)
    metadata = {k: v for k, v in metadata_of(shape).items() if v != []}
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(metadata | {"tokenizer.ggml.merges": ["a b"]}, tensors))
    assert main([str(path), str(tmp_path / "fp8")]) == 0
    found = load_file(tmp_path / "fp8" / "model.safetensors")
    assert ("lm_head.weight" in found) != tied
    scale = found["model.layers.0.mlp.down_proj.weight_scale"]
    codes = found["model.layers.0.mlp.down_proj.weight"].view(torch.float8_e4m3fn)
    stored = np.frombuffer(tensors["blk.0.ffn_down.weight"][2], np.float16).reshape(hidden, width)
    difference = (codes.float() * scale).numpy() - stored.astype(np.float32)
    assert np.abs(difference).max() <= np.abs(stored).max() / 16
    assert read_config(tmp_path / "fp8").tie_word_embeddings == tied
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fp8", "model.gguf"]


def test_perplexity_is_told_before_and_after(
    plain: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(plain), str(tmp_path), f"--perplexity={text}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["model"] == str(tmp_path)
    names = ("weights_in_fp8", "weights_and_inputs_in_fp8")
    for name in names:
        assert found[name] == pytest.approx(found["in_16_bits"], rel=0.1)
    assert len({found[name] for name in ("in_16_bits", *names)}) == 3


@pytest.mark.parametrize(
    ("source", "flags", "status", "problem"),
    [
        ("absent", [], 1, "is neither a folder nor a .gguf file"),
        ("bad.gguf", [], 2, "bad.gguf: not a GGUF file of version 3"),
        ("fp8", [], 1, "is quantised already"),
        ("plain", ["--weights=channel", "--calibration=TEXT"], 2, "goes with dynamic inputs"),
        ("plain", ["--calibration=absent.txt"], 1, "absent.txt: No such file or directory"),
        ("plain", ["--dialect=awq"], 2, "awq"),
    ],
)
def test_what_is_wrong_is_one_line(
    plain: Path,
    text: Path,
    checkpoints: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    source: str,
    flags: list[str],
    status: int,
    problem: str,
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no GGUF at all")
    sources = {"plain": plain, "fp8": checkpoints / "fmo-l0"}
    path = sources.get(source, tmp_path / source)
    flags = [flag.replace("TEXT", str(text)) for flag in flags]
    assert main([str(path), str(tmp_path / "out"), *flags]) == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("octavo quantize: ") and problem in last


def test_a_folder_that_holds_something_is_left_alone(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    assert main([str(plain), str(tmp_path)]) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

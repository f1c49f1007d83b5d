"""A GGUF file becomes FP8 as its folder would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.worker.checkpoint.reader import CheckpointReader
from services.worker.models import load_model, read_config
from services.worker.tools.quantize.__main__ import main
from services.worker.tools.synthesize.metadata import metadata_of
from services.worker.tools.synthesize.shapes import SHAPES
from tests.services.worker.paged_sequences import PagedSequences
from tests.services.worker.tools.prepare.gguf_writer import BF16, F16, F32, gguf_bytes

_SHAPE = SHAPES["tiny"]
_KV_WIDTH = _SHAPE.num_kv_heads * _SHAPE.head_dim


def tensors() -> dict[str, tuple[Sequence[int], int, bytes]]:
    """Random ones, in F16, but the embeddings: in BF16."""
    rng = np.random.default_rng(0)
    hidden, width = _SHAPE.hidden_size, _SHAPE.intermediate_size
    shapes = {"attn_q": (hidden, hidden), "attn_k": (_KV_WIDTH, hidden)}
    shapes |= {"attn_v": (_KV_WIDTH, hidden), "attn_output": (hidden, hidden)}
    shapes |= {"ffn_gate": (width, hidden), "ffn_up": (width, hidden), "ffn_down": (hidden, width)}
    result: dict[str, tuple[Sequence[int], int, bytes]] = {}
    for layer in range(_SHAPE.num_layers):
        for name, shape in shapes.items():
            values = (0.1 * rng.standard_normal(shape)).astype("<f2")
            result[f"blk.{layer}.{name}.weight"] = (shape, F16, values.tobytes())
        for name in ("attn_norm", "ffn_norm"):
            ones = np.ones(hidden, "<f2").tobytes()
            result[f"blk.{layer}.{name}.weight"] = ((hidden,), F16, ones)
    table = rng.standard_normal((_SHAPE.vocab_size, hidden)).astype("<f4").view("<u4") >> 16
    result["token_embd.weight"] = (table.shape, BF16, table.astype("<u2").tobytes())
    result["output_norm.weight"] = ((hidden,), F16, np.ones(hidden, "<f2").tobytes())
    return result


def metadata() -> dict[str, Any]:
    return {"general.architecture": "llama"} | metadata_of(_SHAPE)


def write(folder: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def test_it_loads_and_speaks(tmp_path: Path) -> None:
    source = write(tmp_path, metadata(), tensors())
    assert main([str(source), str(tmp_path / "fp8")]) == 0
    model = load_model(tmp_path / "fp8", device=torch.device("cpu"), dtype=torch.float32)
    logits, _ = PagedSequences(model, num_blocks=4).greedy([5, 6, 7], 4)
    assert logits.isfinite().all() and logits.std() > 0.1
    infos = CheckpointReader(tmp_path / "fp8").tensors
    assert infos["model.layers.0.mlp.up_proj.weight"].dtype == torch.int8
    assert infos["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert {path.name for path in tmp_path.iterdir()} == {"model.gguf", "fp8"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"general.architecture": "mamba"}, "its architecture is 'mamba'"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "tokenizer.ggml.pre is 'llama-bpe'"),
        ({"llama.block_count": 3}, "lacks 'blk.2."),
    ],
)
def test_other_families_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], problem: str
) -> None:
    source = write(tmp_path, metadata() | change, tensors())
    assert main([str(source), str(tmp_path / "fp8")]) == 2
    assert problem in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "fp8").exists()


def test_a_head_of_its_own_is_kept(tmp_path: Path) -> None:
    found = tensors()
    source = write(tmp_path, metadata(), found | {"output.weight": found["token_embd.weight"]})
    assert main([str(source), str(tmp_path / "fp8"), "--inputs=dynamic"]) == 0
    assert "lm_head.weight" in CheckpointReader(tmp_path / "fp8").tensors
    assert not read_config(tmp_path / "fp8").tie_word_embeddings


def test_a_tensor_that_is_not_converted_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left out, it would be another model."""
    found = tensors()
    source = write(tmp_path, metadata(), found | {"rope_freqs.weight": ((1,), F32, bytes(4))})
    assert main([str(source), str(tmp_path / "fp8")]) == 2
    assert "tensor 'rope_freqs.weight'" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("length", [0, 3, 30, 2000, -1])
def test_a_file_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    source = write(tmp_path, metadata(), tensors())
    source.write_bytes(source.read_bytes()[:length])
    assert main([str(source), str(tmp_path / "fp8")]) == 2
    assert "GGUF" in capsys.readouterr().err.splitlines()[-1]

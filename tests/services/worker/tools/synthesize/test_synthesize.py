"""A synthesized model loads, speaks, and has a tokenizer like any other."""

from __future__ import annotations

import hashlib
import json
import shutil
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
from services.worker.stored_tensors import read_stored_tensors
from services.worker.tools.layouts import LAYOUTS
from services.worker.tools.synthesize.__main__ import main
from services.worker.tools.synthesize.shapes import SHAPES
from tests.services.worker.paged_sequences import PagedSequences

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthesized") / "tiny"
    assert main(["--shape", "tiny", str(folder)]) == 0
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
    main(["--shape=tiny", str(same)])
    main(["--shape=tiny", str(other), "--seed=1"])
    assert digest(same) == digest(tiny) != digest(other)
    written_at = (same / "model.safetensors").stat().st_mtime_ns
    main(["--shape=tiny", str(same)])
    assert (same / "model.safetensors").stat().st_mtime_ns == written_at
    main(["--shape=tiny", str(same), "--seed=1"])
    assert digest(same) == digest(other)


@pytest.mark.parametrize("dialect", LAYOUTS)
def test_every_dialect_is_read_as_what_it_is(dialect: str, tmp_path: Path) -> None:
    assert main(["--shape=tiny", f"--dialect={dialect}", "--layers=1", str(tmp_path)]) == 0
    config = read_config(tmp_path)
    assert config.num_layers == 1
    name = "model.layers.0.mlp.up_proj"
    matrix = read_matrix(CheckpointReader(tmp_path), choose_dialect(config.quantization), name)
    layout = LAYOUTS[dialect]
    if isinstance(matrix, Fp8Matrix):
        assert matrix.scale.kind == layout.grain
        is_static = matrix.inputs is not None and matrix.inputs.static_scale is not None
        assert is_static == (layout.input_scale is not None)
    assert isinstance(matrix, Fp8Matrix) == layout.is_quantised
    values = matrix.expand(torch.float32) if isinstance(matrix, Fp8Matrix) else matrix.float()
    assert values.std() == pytest.approx(values.shape[1] ** -0.5, rel=0.03)
    logits, _ = PagedSequences(load_model(tmp_path, device=CPU, dtype=None)).greedy([5, 6], 2)
    assert logits.isfinite().all() and 0.3 < logits.std() < 3


def test_a_sparse_llama_2_70b_has_the_published_files(tmp_path: Path) -> None:
    assert main(["--shape=llama-2-70b", "--sparse", str(tmp_path)]) == 0
    files = sorted(tmp_path.glob("*.safetensors"))
    sizes = [file.stat().st_size / 1e9 for file in files]
    assert sizes == pytest.approx([9.94, 9.80, 9.97, 9.95, 9.80, 9.88, 9.65, 0.524], abs=6e-3)
    assert sum(file.stat().st_blocks for file in files) < 10_000  # of 512 bytes
    assert not read_config(tmp_path).tie_word_embeddings
    tensors = read_stored_tensors(tmp_path)
    assert len(tensors) == 1_843
    assert sum(tensor.num_bytes for tensor in tensors) == 69_502_259_584


def test_in_memory_it_has_a_folder_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--shape=tiny", "--layers=1", "--in-memory"]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    try:
        assert folder.parent == Path("/dev/shm")
        assert read_config(folder).num_layers == 1
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["--shape=tiny"], 2, "Name either DST or --in-memory"),
        (["--shape=tiny", "--in-memory", "DST"], 2, "Name either DST or --in-memory"),
        (["--shape=huge", "DST"], 2, "huge"),
        (["--shape=llama-2-70b", "--dialect=int4", "DST"], 2, "int4"),
        (["--shape=tiny", "DST"], 1, "exists and holds something else"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    status: int,
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    assert main([str(tmp_path) if word == "DST" else word for word in arguments]) == status
    err = capsys.readouterr().err
    assert err.startswith("octavo synthesize: ") and problem in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

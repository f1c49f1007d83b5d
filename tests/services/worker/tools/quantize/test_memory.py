"""Quantising takes the memory of the largest matrix and of the text's states, not of the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.services.worker import tiny_llama
from tests.services.worker.tools.quantize.conftest import NUM_TOKENS, add_tokenizer

WIDTH = 8192
SHAPE = {"hidden_size": 512, "intermediate_size": WIDTH, "num_hidden_layers": 12, "head_dim": 64}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": NUM_TOKENS}
LARGEST_KIB = WIDTH * 512 * (2 + 4) // 1024  # a matrix as it is stored, and in float32
BUFFER_KIB = 40 * 1024  # pieces of tensors, and the states of 64 tokens


def write(folder: Path, checkpoints: Path, **changes: int) -> int:
    """A checkpoint in bfloat16; KiB of its tensors."""
    config = tiny_llama.CONFIG | {"vocab_size": NUM_TOKENS} | changes
    tensors = tiny_llama.tensors(config)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    add_tokenizer(folder, checkpoints)
    return sum(tensor.nbytes for tensor in tensors.values()) // 1024


@pytest.mark.slow
def test_the_peak_is_that_of_the_largest_matrix(
    tmp_path: Path, checkpoints: Path, repository: Path
) -> None:
    write(tmp_path / "small", checkpoints)
    total_kib = write(tmp_path / "large", checkpoints, **SHAPE | HEADS)
    module = "tests.services.worker.tools.quantize.quantizing_process"
    folders = [str(tmp_path / name) for name in ("small", "large", "")]
    # What is freed goes back at once: what the allocator would keep for later is not measured.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-m", module, *folders],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    taken = json.loads(done.stdout.splitlines()[-1])
    assert total_kib > 4 * (LARGEST_KIB + BUFFER_KIB)  # else the limit would show nothing
    assert taken["peak"] - taken["before"] < LARGEST_KIB + BUFFER_KIB

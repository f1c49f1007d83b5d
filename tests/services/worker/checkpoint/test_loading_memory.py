"""Loading takes no more memory than the weights, the largest matrix and a fixed buffer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.services.worker import tiny_llama

BUFFER_KIB = 40 * 1024
SHAPE = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 12, "head_dim": 64}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 8}


def write_fp8(folder: Path) -> tuple[int, int]:
    """A checkpoint of 12 layers; KiB of all weights and of the largest matrix, in bfloat16."""
    config = tiny_llama.CONFIG | SHAPE | HEADS | {"use_fp8_e4m3": True}
    stored, total = {}, 0
    for name, tensor in tiny_llama.tensors(config).items():
        total += tensor.nbytes
        if name.endswith("_proj.weight"):
            stored[name] = tensor.to(torch.float8_e4m3fn).view(torch.int8)
            stored[name.replace(".weight", ".weight_scale")] = torch.rand(()) + 0.5
        else:
            stored[name] = tensor
    (folder / "config.json").write_text(json.dumps(config))
    save_file(stored, folder / "model.safetensors")
    return total // 1024, 2 * 2 * 4096 * 512 // 1024  # gate and up, fused


@pytest.mark.slow
def test_the_peak_is_the_weights_and_the_largest_matrix(tmp_path: Path, repository: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for folder in (small, large):
        folder.mkdir()
    tiny_llama.write(small)
    weights_kib, largest_kib = write_fp8(large)
    module = "tests.services.worker.checkpoint.loading_process"
    command = [sys.executable, "-m", module, str(small), str(large)]
    # What is freed goes back at once: what the allocator would keep for later is not measured.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        command, cwd=repository, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    taken = json.loads(done.stdout.splitlines()[-1])
    assert weights_kib > 2 * (largest_kib + BUFFER_KIB)  # else the limit would show nothing
    assert taken["peak"] - taken["before"] < weights_kib + largest_kib + BUFFER_KIB

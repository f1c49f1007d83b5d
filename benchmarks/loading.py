"""How fast weights are loaded, against reading the same files and nothing else, in one run.

    python -m benchmarks.loading [--folder FOLDER] [--layers 8] [--output FILE.json]

Regime: a random FP8 checkpoint with the layers of a 7B model, made on the spot. Two things take
turns: plain reading of the files from the first to the last byte into one buffer; and the loader,
for a backend that keeps FP8 as it is stored (every code is looked at for NaN, every scale is
checked, matrices of one input lie on top of each other). What a backend makes of them is not
counted. Before each turn the kernel is told to forget the files, so that both read from the disk;
figures with the files in memory come beside them. A figure is the median of the turns; those
in which other processes took too much of the machine are left out where quiet ones remain. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from benchmarks._machine import measured, wait_until_quiet
from benchmarks._record import record
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.kernels.reference import ReferenceKernels
from services.worker.model_config import ModelFiles
from services.worker.models import build_decoder, find_model

CPU = torch.device("cpu")
BUFFER_BYTES = 4 * 2**20
HIDDEN, INTERMEDIATE, VOCABULARY = 4096, 11008, 1024
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"},
}


class KeepAsStored(ReferenceKernels):
    """A backend that multiplies from the stored bytes has nothing to do when it packs."""

    def pack_linear(self, weight: Any, bias: torch.Tensor | None = None) -> Any:
        """The matrix as it came."""
        return weight


def write_checkpoint(folder: Path, num_layers: int) -> None:
    """Random codes that hold no NaN, a shard a layer."""
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": num_layers}))
    generator, weight_map = torch.Generator().manual_seed(0), dict[str, str]()
    shards = [_layer(f"model.layers.{n}", generator) for n in range(num_layers)]
    table = torch.randn(VOCABULARY, HIDDEN, generator=generator).bfloat16()
    norm = {"model.norm.weight": torch.ones(HIDDEN).bfloat16()}
    shards.append(norm | {"model.embed_tokens.weight": table, "lm_head.weight": table.clone()})
    for index, tensors in enumerate(shards):
        name = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        save_file(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    index_file = folder / "model.safetensors.index.json"
    index_file.write_text(json.dumps({"weight_map": weight_map}))
    os.sync()  # what is not written yet cannot be forgotten


def _layer(name: str, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shapes = {f"self_attn.{part}_proj": (HIDDEN, HIDDEN) for part in "qkvo"}
    shapes |= {f"mlp.{part}_proj": (INTERMEDIATE, HIDDEN) for part in ("gate", "up")}
    shapes["mlp.down_proj"] = (HIDDEN, INTERMEDIATE)
    tensors = {}
    for part, shape in shapes.items():
        codes = torch.randint(0, 0x7F, shape, dtype=torch.uint8, generator=generator)
        tensors[f"{name}.{part}.weight"] = codes.view(torch.float8_e4m3fn)
        tensors[f"{name}.{part}.weight_scale"] = torch.rand((), generator=generator) / 1000 + 1e-4
    for part in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"{name}.{part}.weight"] = torch.ones(HIDDEN).bfloat16()
    return tensors


def read_plainly(folder: Path) -> None:
    """Every byte of every file, into one buffer."""
    buffer = bytearray(BUFFER_BYTES)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def load_as_stored(folder: Path) -> None:
    """All that a rank does but for packing."""
    architecture, config = find_model(ModelFiles.read(folder))
    weights = Weights(
        CheckpointReader(folder),
        choose_dialect(config.quantization),
        dtype=torch.bfloat16,
        device=CPU,
        placement=architecture.PLACEMENT,
    )
    kernels = KeepAsStored(CPU, torch.bfloat16)
    build_decoder(architecture, config, kernels=kernels, weights=weights)


def forget(folder: Path) -> None:
    """Asks the kernel to drop the files' pages."""
    for path in folder.glob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


WAYS: dict[str, Callable[[Path], None]] = {
    "plain_reading": read_plainly,
    "loader": load_as_stored,
}


def measure(folder: Path, arguments: argparse.Namespace, *, cold: bool) -> dict[str, float]:
    """MB/s of each way, the median of its turns, and their ratio."""
    us, turns = {"us": [psutil.Process()]}, []
    for _ in range(arguments.turns):
        wait_until_quiet(us, limit=arguments.others_limit, patience_s=arguments.patience_s)
        with measured(us) as usage:
            taken = [_seconds(way, folder, cold=cold) for way in WAYS.values()]
        turns.append((usage.others_share, taken))
    quiet = [taken for share, taken in turns if share <= arguments.others_limit]
    kept = quiet or [taken for _, taken in turns]
    total_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    plain, loader = (total_bytes / 1e6 / median(each) for each in zip(*kept, strict=True))
    return {
        "turns": len(turns),
        "quiet_turns": len(quiet),
        "plain_reading_mb_per_s": round(plain, 1),
        "loader_mb_per_s": round(loader, 1),
        "ratio": round(loader / plain, 3),
    }


def _seconds(way: Callable[[Path], None], folder: Path, *, cold: bool) -> float:
    if cold:
        forget(folder)
    start = time.perf_counter()
    way(folder)
    return time.perf_counter() - start


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is made; on a disk")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--others-limit", type=float, default=0.15, help="share in a quiet turn")
    parser.add_argument("--patience-s", type=float, default=0.0, help="longest wait for one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        write_checkpoint(folder, arguments.layers)
        figures = {
            name: measure(folder, arguments, cold=name == "from_disk")
            for name in ("from_disk", "from_memory")
        }
        total_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for name, values in figures.items():
            print(name, " ".join(f"{key} {value}" for key, value in values.items()), flush=True)
        record(
            "loading",
            Path(f"random-{arguments.layers}-layers"),
            arguments.output,
            threads=arguments.threads,
            checkpoint_bytes=total_bytes,
            **figures,
        )


if __name__ == "__main__":
    main()

"""How fast weights are loaded, against reading the same files and nothing else, in one run.

    python -m benchmarks.loading [--folder FOLDER] [--layers 8] [--model MODEL] [--output FILE.json]

Regime: a random FP8 checkpoint with the layers of a 7B model, made on the spot. Ways take turns:
plain reading of the files from the first to the last byte into one buffer, which stays in the CPU's
cache; the same into new memory, where weights must stay; and the loader, for a backend that keeps
FP8 as it is stored (every code is looked at for NaN, every scale is checked, matrices of one input
lie on top of each other). What a backend makes of them is not counted. With --model, the same for
that checkpoint, and all that a rank does until it can answer: packing for this machine's kernels,
too.

Before each turn the kernel is told to forget the files, so that all read from the disk; figures
with the files in memory come beside them. A figure is the median of the turns; those in which other
processes took too much of the machine are left out where quiet ones remain. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from benchmarks._machine import measured, wait_until_quiet
from benchmarks._record import record
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import empty_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.kernels.reference import ReferenceKernels
from services.worker.model_config import ModelFiles
from services.worker.models import build_decoder, find_model, load_model

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


def read_into_new_memory(folder: Path) -> None:
    """Every file into memory of its own, held as weights are."""
    held = []
    for path in sorted(folder.glob("*.safetensors")):
        content = empty_matrix((1, path.stat().st_size), torch.uint8).numpy().data.cast("B")
        held.append(content)
        with path.open("rb", buffering=0) as file:
            done = 0
            while count := file.readinto(content[done : done + BUFFER_BYTES]):
                done += count


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


def load_rank(folder: Path) -> None:
    """All that a rank does, with the kernels of this machine."""
    load_model(folder, device=CPU, dtype=None, num_threads=torch.get_num_threads())


def forget(folder: Path) -> None:
    """Asks the kernel to drop the files' pages."""
    for path in folder.glob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


Way = Callable[[Path], None]
WAYS: dict[str, Way] = {
    "plain_reading": read_plainly,
    "plain_reading_into_new_memory": read_into_new_memory,
    "loader": load_as_stored,
}


def measure_both(
    folder: Path, ways: Mapping[str, Way], arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """From the disk and from memory; printed as they come."""
    figures = {}
    for name in ("from_disk", "from_memory"):
        values = measure(folder, ways, arguments, cold=name == "from_disk")
        print(name, " ".join(f"{key} {value}" for key, value in values.items()), flush=True)
        figures[name] = values
    return figures


def measure(
    folder: Path, ways: Mapping[str, Way], arguments: argparse.Namespace, *, cold: bool
) -> dict[str, float]:
    """MB/s of each way, the median of its turns; those of the loader against plain reading."""
    us, turns = {"us": [psutil.Process()]}, []
    for turn in range(arguments.turns):
        wait_until_quiet(us, limit=arguments.others_limit, patience_s=arguments.patience_s)
        with measured(us) as usage:
            taken = _take_turns(folder, ways, first=turn % len(ways), cold=cold)
        turns.append((usage.others_share, [taken[way] for way in ways]))
    quiet = [taken for share, taken in turns if share <= arguments.others_limit]
    kept = quiet or [taken for _, taken in turns]
    num_bytes = _stored_bytes(folder)
    seconds = dict(zip(ways, map(median, zip(*kept, strict=True)), strict=True))
    return {
        "turns": len(turns),
        "quiet_turns": len(quiet),
        **{f"{way}_mb_per_s": round(num_bytes / 1e6 / taken, 1) for way, taken in seconds.items()},
        "ratio": round(seconds["plain_reading"] / seconds["loader"], 3),
        "ratio_to_new_memory": round(
            seconds["plain_reading_into_new_memory"] / seconds["loader"], 3
        ),
    }


def _take_turns(
    folder: Path, ways: Mapping[str, Way], *, first: int, cold: bool
) -> dict[str, float]:
    """Seconds of each, from the first on: who begins pays for memory that the machine took back."""
    names = list(ways)
    return {name: _seconds(ways[name], folder, cold=cold) for name in names[first:] + names[:first]}


def _stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


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
    parser.add_argument("--model", type=Path, help="a checkpoint folder, measured too")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--others-limit", type=float, default=0.15, help="share in a quiet turn")
    parser.add_argument("--patience-s", type=float, default=0.0, help="longest wait for one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    of_model: dict[str, Any] = {}
    if arguments.model:
        print(arguments.model.name)
        ways = WAYS | {"whole_rank": load_rank}
        figures = measure_both(arguments.model, ways, arguments)
        of_model = {
            "name": arguments.model.name,
            "checkpoint_bytes": _stored_bytes(arguments.model),
        }
        of_model |= figures
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        write_checkpoint(folder, arguments.layers)
        name = f"random-{arguments.layers}-layers"
        print(name)
        record(
            "loading",
            Path(name),
            arguments.output,
            threads=arguments.threads,
            checkpoint_bytes=_stored_bytes(folder),
            **measure_both(folder, WAYS, arguments),
            **({"given_model": of_model} if of_model else {}),
        )


if __name__ == "__main__":
    main()

"""What can be known to fail before a rank starts: missing files, and memory that is not there."""

from __future__ import annotations

from pathlib import Path

from octavo.errors import FailedPreconditionError, ResourceExhaustedError
from octavo.fingerprint import TOKENIZER_FILES
from services.worker.held_weights import NumericChoices, held_on_cpu
from services.worker.memory_plan import GIB, rank_weight_bytes
from services.worker.model_config import ModelConfig, ModelFiles, read_model_type
from services.worker.stored_tensors import find_shards, read_stored_tensors, refused_pickle

DEFAULT_MAX_KV_CACHE_BYTES = GIB


def check_folder(folder: Path) -> None:
    """Raises FailedPreconditionError for a checkpoint without one of the files it needs."""
    if not folder.is_dir():
        raise _missing(folder, "is not a folder")
    if not (folder / "config.json").is_file():
        raise _missing(folder, "holds no config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickle = refused_pickle(folder)
        raise _missing(folder, f"holds no *.safetensors{f'; {pickle}' if pickle else ''}")
    for path in weights:
        if not path.is_file():  # a pipe or a device would be read for ever
            raise _missing(folder, f"holds {path.name}, which is no file")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES[:2]):
        raise _missing(folder, f"holds neither {TOKENIZER_FILES[0]} nor {TOKENIZER_FILES[1]}")


def plan_kv_cache(
    folder: Path, choices: NumericChoices, *, wanted_bytes: int | None, available: int
) -> int:
    """Bytes of KV cache to give to the ranks, given the bytes of memory available.

    Raises ResourceExhaustedError, with the arithmetic, where weights and cache cannot fit, and what
    weight_bytes raises.
    """
    weights = weight_bytes(folder, choices)
    kv = wanted_bytes or max(1, min(DEFAULT_MAX_KV_CACHE_BYTES, (available - weights) // 4))
    if weights + kv > available:
        raise ResourceExhaustedError(
            f"--model {folder} needs {_gib(weights)} for weights and {_gib(kv)} for the KV cache, "
            f"{_gib(weights + kv)} together; {_gib(available)} are available.",
            reason="NOT_ENOUGH_MEMORY",
        )
    return kv


def weight_bytes(folder: Path, choices: NumericChoices) -> int:
    """Bytes of the weights once loaded on this machine's CPU.

    Raises OctavoError, naming file, key and value, for a config.json that is not served, and for
    files of weights that are missing or malformed.
    """
    files = ModelFiles.read(folder)
    read_model_type(files.config)
    config = ModelConfig.of(files)
    form = held_on_cpu(config, choices)
    find_shards(folder)  # raises where one is missing
    return rank_weight_bytes(config, read_stored_tensors(folder), num_devices=1, form=form)


def available_memory() -> int:
    """Bytes that this process and its children may still use, by the machine and the cgroup."""
    return min(_machine_memory(), *_cgroup_memory(Path("/sys/fs/cgroup")))


def _machine_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/meminfo has no MemAvailable")


def _cgroup_memory(folder: Path) -> list[int]:
    """The room below the limit of this cgroup (version 2); nothing where there is no limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
        statistics = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return [2**63]
    if limit == "max":
        return [2**63]
    # The page cache counts as used, and goes when it is needed.
    cached = [line.split()[1] for line in statistics if line.startswith("inactive_file ")]
    reclaimable = sum(map(int, cached))
    return [max(0, int(limit) - int(used) + reclaimable)]


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB"


def _missing(path: Path, what: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"--model: {path} {what}.", reason="BAD_CHECKPOINT")

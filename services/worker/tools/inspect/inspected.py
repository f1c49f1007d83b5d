"""Everything that is said of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from octavo.errors import NotFoundError
from services.worker.held_weights import NumericChoices, held_on_cpu
from services.worker.memory_plan import MemoryPlan, plan_memory
from services.worker.model_config import ModelConfig, ModelFiles
from services.worker.stored_tensors import StoredTensor, find_shards, read_stored_tensors
from services.worker.tools.inspect.devices import Devices
from services.worker.tools.inspect.dialect import Dialect, describe_dialect
from services.worker.tools.inspect.printable import printable
from services.worker.tools.inspect.warnings import warnings_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """So many devices of one kind, with the cache in 16 bits and in FP8."""

    devices: Devices
    plan: MemoryPlan
    fp8_cache: MemoryPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """A checkpoint, by its files."""

    folder: Path
    config: ModelConfig
    architecture: str
    dialect: Dialect
    num_parameters: int
    num_tensors: int
    num_files: int
    num_bytes: int  # of all tensors
    fits: tuple[Fit, ...]
    warnings: tuple[str, ...]


def inspect_folder(
    folder: Path, kinds: Iterable[Devices], numbers: Iterable[int], choices: NumericChoices
) -> Inspected:
    """Plans for each of `numbers` devices of each kind. Raises OctavoError for a broken folder."""
    files = ModelFiles.read(folder)
    config = ModelConfig.of(files)
    tensors = {tensor.name: tensor for tensor in read_stored_tensors(folder)}
    if not tensors:
        find_shards(folder)  # raises where files are missing
        raise NotFoundError(f"{folder} holds no tensor.", reason="CHECKPOINT_FILE_MISSING")
    dialect = describe_dialect(config.quantization, tensors)
    numbers = tuple(numbers)
    return Inspected(
        folder=folder,
        config=config,
        architecture=_architecture(files.config.values.get("architectures")),
        dialect=dialect,
        num_parameters=sum(math.prod(t.shape) for t in tensors.values() if _is_parameter(t)),
        num_tensors=len(tensors),
        num_files=len(list(folder.glob("*.safetensors"))),
        num_bytes=sum(tensor.num_bytes for tensor in tensors.values()),
        fits=tuple(_fit(config, tensors, kind, n, choices) for kind in kinds for n in numbers),
        warnings=tuple(warnings_of(folder, files.config.values, tensors, dialect)),
    )


def _fit(
    config: ModelConfig,
    tensors: Mapping[str, StoredTensor],
    devices: Devices,
    num_devices: int,
    choices: NumericChoices,
) -> Fit:
    plan, fp8_cache = (
        plan_memory(
            config,
            tensors.values(),
            num_devices=num_devices,
            device_bytes=devices.bytes_of_each(num_devices),
            form=held_on_cpu(config, choices) if devices.is_cpu else None,
            kv_element_bytes=1 if choices.fp8_kv_cache else 2,
        )
        for choices in (choices, replace(choices, fp8_kv_cache=True))
    )
    return Fit(devices=devices, plan=plan, fp8_cache=fp8_cache)


def _architecture(names: object) -> str:
    """As config.json says; "?" where it does not say names."""
    if not names or not isinstance(names, list):
        return "?"
    return ", ".join(map(printable, names))


def _is_parameter(tensor: StoredTensor) -> bool:
    return tensor.name.endswith((".weight", ".bias"))

"""What was found, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from octavo.cli.table import table
from services.worker.memory_plan import GIB
from services.worker.tools.inspect.inspected import Fit, Inspected
from services.worker.tools.inspect.printable import printable

_HEADINGS = ("DEVICES", "MEMORY OF EACH", "WEIGHTS", "KV PER TOKEN", "KV TOKENS", "WITH FP8 CACHE")


def lines_of(found: Inspected) -> Iterator[str]:
    """The report as text."""
    config = found.config
    yield str(found.folder)
    yield from (
        f"  {line}"
        for line in table(
            ("architecture", f"{found.architecture} ({printable(config.model_type)})"),
            [
                ("dialect", found.dialect.words),
                ("parameters", f"{found.num_parameters:,}"),
                ("tensors", f"{found.num_tensors:,} in {_files(found.num_files)}"),
                ("bytes", f"{found.num_bytes:,} ({found.num_bytes / 1e9:.2f} GB)"),
                ("layers", f"{config.num_layers}, hidden size {config.hidden_size:,}"),
                ("heads", f"{config.num_heads}, {config.num_kv_heads} for keys and values"),
                ("vocabulary", f"{config.vocab_size:,}"),
                ("context", f"{config.max_context:,} tokens"),
            ],
        )
    )
    yield ""
    yield from table(_HEADINGS, map(_row, found.fits))
    for warning in found.warnings:
        yield f"warning: {warning}"


def as_json(found: Inspected) -> dict[str, Any]:
    """The report as one object."""
    config, dialect = found.config, found.dialect
    return {
        "model": str(found.folder),
        "architecture": found.architecture,
        "model_type": config.model_type,
        "dialect": {
            "family": dialect.family,
            "weights": dialect.weights,
            "inputs": dialect.inputs,
            "kv_cache": dialect.kv_cache,
            "num_quantised": dialect.num_quantised,
        },
        "num_parameters": found.num_parameters,
        "num_tensors": found.num_tensors,
        "num_files": found.num_files,
        "num_bytes": found.num_bytes,
        "num_layers": config.num_layers,
        "max_context": config.max_context,
        "devices": [_fit_json(fit) for fit in found.fits],
        "warnings": list(found.warnings),
    }


def _row(fit: Fit) -> tuple[str, ...]:
    plan = fit.plan
    memory = fit.devices.bytes_of_each(plan.num_devices)
    fitting = (f"{plan.kv_tokens:,}", f"{fit.fp8_cache.kv_tokens:,}")
    missing = (f"{_gib(-plan.kv_cache_bytes)} are missing", "")
    return (
        str(plan.num_devices),
        f"{_gib(memory)} ({fit.devices.name})",
        _gib(plan.weight_bytes),
        f"{plan.kv_bytes_per_token / 1024:,.5g} KiB",
        *(fitting if plan.fits else missing),
    )


def _fit_json(fit: Fit) -> dict[str, Any]:
    plan = fit.plan
    return {
        "name": fit.devices.name,
        "num_devices": plan.num_devices,
        "memory_bytes": fit.devices.bytes_of_each(plan.num_devices),
        "weight_bytes": plan.weight_bytes,
        "kv_bytes_per_token": plan.kv_bytes_per_token,
        "kv_cache_bytes": plan.kv_cache_bytes,
        "fits": plan.fits,
        "kv_tokens": plan.kv_tokens,
        "kv_tokens_with_fp8_cache": fit.fp8_cache.kv_tokens,
    }


def _files(number: int) -> str:
    return "one file" if number == 1 else f"{number} files"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB"

"""What each process of a worker group imports: the front no torch, a rank no gRPC or pydantic."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What a rank may import besides pure Python.
NATIVE_PACKAGES = {"torch", "triton", "numpy", "safetensors", "google", "structlog"}

REPORT = """
import importlib.machinery, json, sys
native = tuple(importlib.machinery.EXTENSION_SUFFIXES)
names = {name.partition(".")[0] for name in list(sys.modules)} - set(sys.stdlib_module_names)
loaded = {
    name.partition(".")[0]
    for name, module in list(sys.modules.items())
    if str(getattr(module, "__file__", "")).endswith(native)
} - set(sys.stdlib_module_names)
print(json.dumps([sorted(names), sorted(loaded)]))
"""


def imports_of(*modules: str) -> tuple[set[str], set[str]]:
    """The packages outside the standard library, and those of them with a native module."""
    code = "".join(f"import {module}\n" for module in modules) + REPORT
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    ).stdout
    names, native = json.loads(output.splitlines()[-1])
    return set(names), set(native)


@pytest.mark.slow
def test_a_rank_imports_no_more_than_it_may() -> None:
    names, native = imports_of(
        "services.worker.rank.__main__",
        "services.worker.rank.loading",
        "services.worker.rank.loop",
    )
    assert "torch" in names
    assert native <= NATIVE_PACKAGES
    assert not names & {"grpc", "pydantic", "tokenizers", "prometheus_client"}


def test_a_rank_says_hello_before_it_imports_torch() -> None:
    names, _ = imports_of("services.worker.rank.__main__")
    assert not names & {"torch", "numpy", "triton", "safetensors"}


def test_the_front_imports_no_torch() -> None:
    names, _ = imports_of("services.worker.__main__")
    assert "grpc" in names
    assert not names & {"torch", "numpy", "triton", "safetensors", "tokenizers", "sentencepiece"}

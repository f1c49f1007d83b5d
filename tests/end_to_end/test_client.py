"""The Python clients on the running product: every example that is documented."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import octavo
from tests.end_to_end.product import REPOSITORY, Product

pytestmark = [pytest.mark.slow, pytest.mark.real_model]


def globals_of(product: Product) -> dict[str, Any]:
    return {"octavo": octavo, "asyncio": asyncio, "address": product.grpc}


def failures(tests: list[doctest.DocTest]) -> str:
    """Runs examples; what went wrong."""
    written: list[str] = []
    for test in tests:
        doctest.DocTestRunner().run(test, out=written.append)
    return "".join(written)


@pytest.mark.parametrize("documented", [octavo.Client, octavo.AsyncClient])
def test_the_examples_of_docstrings_run(real: Product, documented: type) -> None:
    module = inspect.getmodule(documented)
    found = doctest.DocTestFinder().find(documented, module=module, globs=globals_of(real))
    tests = [test for test in found if test.examples]
    assert len(tests) >= 3
    assert failures(tests) == ""


def test_the_examples_of_the_page_run(real: Product) -> None:
    text = (REPOSITORY / "docs" / "client.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(text, globals_of(real), "client.md", None, 0)
    assert len(test.examples) > 20
    assert failures([test]) == ""


def test_the_example_of_the_readme_runs(real: Product) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    example = readme.split("With Python", maxsplit=1)[1].split("```")[1]
    script = re.sub(r"^python\n", "", example).replace("127.0.0.1:8001", real.grpc)
    assert real.grpc in script
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Paris" in done.stdout

"""docs/protocol.md lists the reasons that the sources give, and no others."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
REASON = re.compile(r"\b[A-Z][A-Z_]{5,}\b")


def reasons_in_sources() -> set[str]:
    sources = (
        path
        for package in ("octavo", "gateway", "services")
        for path in (REPOSITORY / package).rglob("*.py")
        if not path.is_relative_to(REPOSITORY / "octavo/v1")
    )
    given = re.compile(r'reason="([A-Z_]+)"')
    return {reason for path in sources for reason in given.findall(path.read_text())}


def reasons_in_docs() -> set[str]:
    text = (REPOSITORY / "docs/protocol.md").read_text()
    section = text.partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    words = [cells[1].strip() for cells in rows[1:]]
    lists = section.partition("Between the services alone")[2]
    return {*words, *REASON.findall(lists)}


def test_the_errors_that_are_listed_are_those_that_exist() -> None:
    assert reasons_in_docs() == reasons_in_sources()

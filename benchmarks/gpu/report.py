"""The results file of `make gpu`, and its table; written anew after every part.

A part's entry stays until the part runs again: each says its own device, commit and date.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.runner import Outcome

RESULT_NAME, TABLE_NAME, LOG_NAME = "gpu.json", "gpu.md", "gpu.log"


class Report:
    """Keeps gpu.json and gpu.md in `folder` up to date."""

    def __init__(self, folder: Path, *, commit: str, command: str) -> None:
        self._folder = folder
        self._made_by = {"commit": commit, "command": command}
        folder.mkdir(parents=True, exist_ok=True)
        self._parts: dict[str, Any] = _read(folder / RESULT_NAME)

    def add(self, name: str, outcome: Outcome) -> None:
        """Takes in a part's outcome and writes both files."""
        date = dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
        entry = {key: value for key, value in asdict(outcome).items() if value is not None}
        self._parts[name] = {**entry, **self._made_by, "date": date}
        result = {"benchmark": "gpu", "parts": self._parts}
        _write(self._folder / RESULT_NAME, json.dumps(result, indent=2) + "\n")
        _write(self._folder / TABLE_NAME, markdown(self._parts))


def markdown(parts: Mapping[str, Any]) -> str:
    """All parts as a page: how each ended, then the figures of those that passed."""
    blocks = [["# GPU"], _table([_summary(name, part) for name, part in parts.items()])]
    for name, part in parts.items():
        blocks += [[f"## {name}"], *_figures(part.get("figures", {}))]
        if "error" in part:
            blocks.append(["```", *part["error"].splitlines(), "```"])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _summary(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    device = part.get("device", {})
    return {
        "part": name,
        "status": part["status"],
        "seconds": part["seconds"],
        "device": device.get("name", "-"),
        "torch": device.get("torch", "-"),
        "CUDA": device.get("cuda", "-"),
        "commit": part["commit"],
        "date": part["date"],
    }


def _figures(figures: Mapping[str, Any]) -> list[list[str]]:
    """A table of the plain values, and one for each list of objects."""
    lists = {name: value for name, value in figures.items() if isinstance(value, list)}
    plain = [{"figure": name, "value": figures[name]} for name in figures if name not in lists]
    return [_table(rows) for rows in (plain, *lists.values()) if rows]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(rows[0])
    lines = [
        columns,
        ["---"] * len(columns),
        *([row[column] for column in columns] for row in rows),
    ]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]


def _read(path: Path) -> dict[str, Any]:
    """The parts of an earlier run."""
    if not path.is_file():
        return {}
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    return parts


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a cut leaves the file before."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)

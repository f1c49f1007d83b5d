"""A picture of a comparison: tokens a second of both engines, as bars.

python -m benchmarks.peers.picture benchmarks/results/llama_cpp.json docs/cpu-speed.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.peers.llama_cpp import OURS, THEIRS

_WIDTH, _LEFT, _BARS = 720, 170, 400
_BAR, _GAP, _TOP = 14, 18, 58
_COLOURS = {OURS: "#2563eb", THEIRS: "#9ca3af"}


def draw(result: dict[str, Any]) -> str:
    """An SVG file. Bars of decoding share a scale, and those of prefill."""
    cells = [cell for cell in result["figures"] if cell.get("context", 256) == 256]
    most = {
        phase: max(cell[OURS]["tokens_per_s"] for cell in cells if cell["phase"] == phase)
        for phase in {cell["phase"] for cell in cells}
    }
    height = _TOP + len(cells) * (2 * _BAR + _GAP) + 30
    size = f'width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(12, 22, f"{result['model']}, tokens/s on {result['device']}", "bold"),
        _text(12, 42, f"{OURS}: FP8 weights, whole engine. {THEIRS}: Q8_0, llama_decode alone."),
    ]
    for index, cell in enumerate(cells):
        y = _TOP + index * (2 * _BAR + _GAP)
        lines.append(_text(12, y + _BAR + 5, _name(cell)))
        for place, engine in enumerate((OURS, THEIRS)):
            rate = cell[engine]["tokens_per_s"]
            width = max(1.0, _BARS * rate / most[cell["phase"]])
            top = y + place * _BAR
            lines.append(
                f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR - 1}" '
                f'fill="{_COLOURS[engine]}"/>'
            )
            label = f"{rate:,.0f}" + (f"  ({cell['ratio']} x)" if engine == OURS else "")
            lines.append(_text(_LEFT + width + 6, top + _BAR - 3, label))
    lines.append(_text(12, height - 10, f"commit {result['commit']}, {result['date'][:10]}"))
    return "\n".join([*lines, "</svg>", ""])


def _name(cell: dict[str, Any]) -> str:
    if cell["phase"] == "prefill":
        return f"prefill, {cell['tokens']} tokens"
    return f"decode, {cell['streams']} stream{'s' if cell['streams'] > 1 else ''}"


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{escape(text)}</text>'


def main() -> None:
    """Draws one file from another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.picture")
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text(encoding="utf-8"))
    arguments.picture.write_text(draw(result), encoding="utf-8")


if __name__ == "__main__":
    main()

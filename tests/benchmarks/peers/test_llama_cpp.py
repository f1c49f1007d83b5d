"""Comparisons with another engine: ratios, and the picture that is drawn of them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from benchmarks._interleaved import Turn
from benchmarks.peers.llama_cpp import compare, ratios
from benchmarks.peers.picture import draw


def turns(*rates: float) -> list[Turn]:
    return [Turn(tokens_per_s=rate, others_share=0.0) for rate in rates]


def cells() -> list[dict[str, Any]]:
    one = {"phase": "decode", "streams": 1, "context": 256}
    many = {"phase": "decode", "streams": 8, "context": 2000}
    prompt = {"phase": "prefill", "tokens": 512}
    pairs = [(one, 300.0, 150.0), (many, 900.0, 300.0), (prompt, 3000.0, 1000.0)]
    return [
        cell | compare({"octavo": turns(ours), "llama.cpp": turns(theirs)}, 0.05)
        for cell, ours, theirs in pairs
    ]


def test_ratios_are_of_medians() -> None:
    found = compare({"octavo": turns(10, 20, 90), "llama.cpp": turns(5, 8, 6)}, 0.05)
    assert found["ratio"] == 3.33
    assert ratios(cells()) == {"decode_1_256": 2.0, "decode_8_2000": 3.0, "prefill_512": 3.0}


def test_the_picture_shows_both_engines() -> None:
    result = {"model": "tiny <1>", "device": "a CPU", "commit": "abc", "date": "2026-01-02T00:00"}
    picture = draw(result | {"figures": cells()})
    root = ET.fromstring(picture)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "300  (2.0 x)" in texts and "150" in texts
    assert "decode, 1 stream" in texts
    assert "decode, 8 streams" not in texts  # of another context
    bars = [float(bar.get("width", 0)) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars[1] == 2 * bars[2]

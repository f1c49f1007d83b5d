"""What was done, for a person and for a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from services.worker.tools.quantize.quantized import Order, Quantized


def lines_of(order: Order, done: Quantized) -> Iterator[str]:
    """The report as text."""
    scheme, written = order.scheme, done.written
    calibrated = f" ({written.num_calibration_tokens} tokens)" if scheme.inputs == "static" else ""
    yield (
        f"{order.destination}: {written.num_matrices} matrices in FP8, {scheme.dialect}, "
        f"{scheme.inputs} inputs{calibrated}, a scale for each {scheme.weights}"
    )
    yield f"{written.source_bytes / 1e6:.1f} MB became {written.num_bytes / 1e6:.1f} MB"
    if done.before is not None and done.after is not None and done.after_w8a8 is not None:
        before = done.before.perplexity
        yield f"perplexity {before:.4f}"
        for name, measured in (("weights", done.after), ("weights and inputs", done.after_w8a8)):
            after = measured.perplexity
            yield f"  {name} in FP8: {after:.4f} ({after / before - 1:+.2%})"
        yield done.before.regime


def as_json(order: Order, done: Quantized) -> dict[str, Any]:
    """The report as one object."""
    return {
        "source": str(order.source),
        "destination": str(order.destination),
        **dataclasses.asdict(order.scheme),
        **dataclasses.asdict(done.written),
        "perplexity": None if done.before is None else _figures(done),
    }


def _figures(done: Quantized) -> dict[str, Any]:
    names = ("before", "after", "after_w8a8")
    return {name: getattr(done, name).as_json() for name in names}

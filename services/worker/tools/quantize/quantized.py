"""From a source to a folder in FP8, and what is said of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from octavo.status_line import StatusLine
from services.worker.rank.loading import choose_device
from services.worker.tools.perplexity.measured import Measured, Regime, measure_perplexity
from services.worker.tools.quantize.calibrate import (
    LargestInputs,
    calibration_windows,
    run_windows,
)
from services.worker.tools.quantize.folder import check_destination, staged, write_documents
from services.worker.tools.quantize.gguf_source import folder_of
from services.worker.tools.quantize.pieces import type_name
from services.worker.tools.quantize.scales import MatrixScales, group_scales, largest_of_rows
from services.worker.tools.quantize.scheme import Scheme
from services.worker.tools.quantize.source import Source, open_source
from services.worker.tools.quantize.write import write_tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What static scales of inputs are measured with; text None: a few prompts."""

    text: str | None
    num_tokens: int  # at most
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be done. scored_text: what perplexity is measured on; None: it is not."""

    source: Path
    destination: Path
    overwrite: bool
    scheme: Scheme
    calibration: Calibration
    scored_text: str | None
    regime: Regime


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written."""

    num_matrices: int
    num_calibration_tokens: int
    source_bytes: int  # of tensors
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """What was done; perplexity as it is served, None where it was not asked for."""

    written: Written
    before: Measured | None
    after: Measured | None
    after_w8a8: Measured | None  # with inputs rounded, too


def quantize(order: Order, line: StatusLine) -> Quantized:
    """Does all of it; `line` shows how far it is.

    Raises OctavoError for what cannot be read or written, and for what is quantised already.
    """
    destination = order.destination.expanduser().absolute()
    check_destination(order.source, destination, overwrite=order.overwrite)
    with staged(destination) as staging:
        folder = folder_of(order.source, staging.scratch, line)
        before = _perplexity(folder, order, line)  # first: it may refuse the text
        written = write_quantized(folder, staging.built, order.scheme, order.calibration, line)
    return Quantized(
        written=written,
        before=before,
        after=_perplexity(destination, order, line),
        after_w8a8=_perplexity(destination, order, line, fp8_activations=True),
    )


def write_quantized(
    folder: Path, built: Path, scheme: Scheme, calibration: Calibration, line: StatusLine
) -> Written:
    """Writes the checkpoint in `folder` to the empty folder `built`."""
    is_static = scheme.inputs == "static"
    steps = _Steps(line)
    largest = LargestInputs(lambda done: steps.groups("calibrating", done))
    device = choose_device(calibration.device if is_static else "cpu")
    source = open_source(folder, device, largest.add)
    steps.num_groups = len(source.groups)
    rows: dict[str, torch.Tensor] = {}
    for done, group in enumerate(source.groups, 1):
        rows |= {name: largest_of_rows(source.reader, name) for name in group.names}
        steps.groups("measuring weights", done)
    num_tokens = _calibrate(source, calibration) if is_static else 0
    scales: dict[str, MatrixScales] = {}
    for group in source.groups:
        of_group = {name: rows[name] for name in group.names}
        stored = type_name(source.reader.info(f"{group.names[0]}.weight"))
        scales |= group_scales(scheme, of_group, stored, largest.of(group) if is_static else None)
    num_bytes = write_tensors(built, source.reader, scheme, scales, steps.bytes)
    write_documents(built, folder, {**source.files.config.values, **scheme.layout.config})
    return Written(
        num_matrices=len(scales),
        num_calibration_tokens=num_tokens,
        source_bytes=source.reader.total_bytes,
        num_bytes=num_bytes,
    )


def _perplexity(
    folder: Path, order: Order, line: StatusLine, *, fp8_activations: bool = False
) -> Measured | None:
    if order.scored_text is None:
        return None
    regime = dataclasses.replace(order.regime, fp8_activations=fp8_activations)
    return measure_perplexity(folder, order.scored_text, regime, line)


def _calibrate(source: Source, calibration: Calibration) -> int:
    """Runs the text; the tokens that were run."""
    windows = calibration_windows(
        source.folder,
        calibration.text,
        num_tokens=calibration.num_tokens,
        max_context=source.model.config.max_context,
    )
    run_windows(source.model, windows)
    return sum(map(len, windows))


class _Steps:
    """Shows counts on a line."""

    def __init__(self, line: StatusLine) -> None:
        self._line = line
        self.num_groups = 0

    def groups(self, step: str, done: int) -> None:
        self._line.show(step, f"{done} / {self.num_groups} groups", is_last=done == self.num_groups)

    def bytes(self, done: int, total: int) -> None:
        detail = f"{done / 1e6:.0f} / {total / 1e6:.0f} MB"
        self._line.show("writing FP8", detail, is_last=done == total)

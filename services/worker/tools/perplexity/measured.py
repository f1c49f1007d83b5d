"""From a checkpoint's folder and a text to its perplexity, with all that decides the figure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from octavo.errors import InWords, invalid_field
from octavo.status_line import StatusLine
from services.worker.models import Model, load_model
from services.worker.rank.loading import choose_device
from services.worker.tools.perplexity.measure import score_windows
from services.worker.tools.text_ids import encode_text

# By the names of a command line; auto is the checkpoint's own.
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """How a text is scored."""

    context: int  # tokens of a window
    device: str
    dtype: torch.dtype | None  # of activations; None: the checkpoint's own
    threads: int | None
    fp8_weights: bool = False  # 16-bit weights are rounded when they are loaded
    fp8_activations: bool = False  # inputs of FP8 matrices are rounded as the checkpoint says
    fp8_kv_cache: bool = False

    @property
    def rounded(self) -> str:
        """What is rounded to FP8 beside what is stored so."""
        chosen = {
            "weights": self.fp8_weights,
            "activations": self.fp8_activations,
            "KV cache": self.fp8_kv_cache,
        }
        return ", ".join(name for name, is_rounded in chosen.items() if is_rounded)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The figure, and what it was measured with."""

    perplexity: float
    loss: float  # nats a token
    num_tokens: int  # that were scored
    num_windows: int
    context: int
    stride: int  # equal to context: windows lie side by side
    starts_with: tuple[int, ...]  # ids put before each window
    dtype: str
    device: str
    fp8: str  # what is rounded to FP8 beside what is stored so: "activations, KV cache"

    @property
    def regime(self) -> str:
        """What decides the figure, for a person."""
        start = f", each begun by {list(self.starts_with)}" if self.starts_with else ", no BOS"
        return (
            f"{self.num_windows} windows of {self.context} tokens, stride {self.stride}{start}; "
            f"all but the first token of a window are scored; {self.dtype} on {self.device}"
            f"{f', {self.fp8} in FP8' if self.fp8 else ''}"
        )

    def as_json(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return dataclasses.asdict(self)


def measure_perplexity(folder: Path, text: str, regime: Regime, line: StatusLine) -> Measured:
    """Loads the model and scores the text; `line` shows how far it is."""
    ids = encode_text(folder, text)
    model = _load(folder, regime, line)
    context = min(regime.context, model.config.max_context)
    windows = [window for window in ids.windows(context) if len(window) > 1]
    if not windows:
        raise invalid_field("TEXT", InWords(f"{len(ids.ids)} tokens"), "at least 2 tokens")
    score = score_windows(model, windows, lambda done, total: _show(line, done, total))
    return Measured(
        perplexity=score.perplexity,
        loss=score.loss,
        num_tokens=score.num_tokens,
        num_windows=len(windows),
        context=context,
        stride=context - len(ids.prefix),
        starts_with=ids.prefix,
        dtype=str(model.dtype).removeprefix("torch."),
        device=choose_device(regime.device).type,
        fp8=regime.rounded,
    )


def _load(folder: Path, regime: Regime, line: StatusLine) -> Model:
    return load_model(
        folder,
        device=choose_device(regime.device),
        dtype=regime.dtype,
        num_threads=regime.threads,
        fp8_weights=regime.fp8_weights,
        fp8_activations=regime.fp8_activations,
        fp8_kv_cache=regime.fp8_kv_cache,
        on_progress=lambda done, total: line.show(
            "loading the model", f"{done / 1e6:.0f} / {total / 1e6:.0f} MB", is_last=done == total
        ),
    )


def _show(line: StatusLine, done: int, total: int) -> None:
    line.show("scoring", f"{done} / {total} windows", is_last=done == total)

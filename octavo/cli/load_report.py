"""What `octavo status` shows of two looks at a gateway: how busy it is, and how fast in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from octavo.cli.gateway_load import GatewayLoad, WorkerLoad
from octavo.cli.table import table

_HEADINGS = ("WORKER", "STATE", "RANKS", "RUNNING", "QUEUE", "KV BLOCKS", "TOKENS/S")


class LoadReport:
    """`now`, with rates since `before`."""

    def __init__(self, before: GatewayLoad, now: GatewayLoad) -> None:
        self._now = now
        self._seconds = now.read_at_s - before.read_at_s
        self._before = {worker.address: worker.generated_tokens for worker in before.workers}

    def values(self) -> dict[str, Any]:
        """All of it, for JSON."""
        workers = [
            {**dataclasses.asdict(worker), "tokens_per_s": round(self._rate(worker), 1)}
            for worker in self._now.workers
        ]
        return {
            "requests_open": self._now.requests_open,
            "tokens_per_s": round(self._total_rate(), 1),
            "workers": workers,
            "tokenizers": [dataclasses.asdict(state) for state in self._now.tokenizers],
        }

    def lines(self, address: str) -> Iterable[str]:
        """All of it, for a person."""
        yield (
            f"gateway {address}: {self._now.requests_open} requests open, "
            f"{self._total_rate():.1f} tokens/s"
        )
        yield ""
        yield from table(_HEADINGS, map(self._row, self._now.workers))
        yield ""
        states = ((state.address, _state(state.ready)) for state in self._now.tokenizers)
        yield from table(("TOKENIZER", "STATE"), states)

    def _row(self, worker: WorkerLoad) -> tuple[str, ...]:
        used, total = worker.kv_blocks_used, worker.kv_blocks_total
        share = f" ({used / total:.0%})" if total else ""
        return (
            worker.address,
            _state(worker.ready),
            str(worker.ranks),
            str(worker.requests_running),
            str(worker.requests_waiting),
            f"{used} / {total}{share}",
            f"{self._rate(worker):.1f}",
        )

    def _total_rate(self) -> float:
        return sum(self._rate(worker) for worker in self._now.workers)

    def _rate(self, worker: WorkerLoad) -> float:
        """Tokens per second; a gateway that was started again in between counts from 0."""
        before = self._before.get(worker.address, worker.generated_tokens)
        made = worker.generated_tokens - before
        return (made if made >= 0 else worker.generated_tokens) / self._seconds


def _state(ready: bool) -> str:
    return "ready" if ready else "not ready"

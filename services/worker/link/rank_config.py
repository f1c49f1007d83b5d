"""What the front tells each rank at its start: plain values, so that a rank needs no pydantic."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from octavo.logs import LogFormat, LogLevel

ENVIRONMENT_NAME = "OCTAVO_RANK_CONFIG"


@dataclass(frozen=True, kw_only=True, slots=True)
class RankConfig:
    """The settings of one generation of ranks; the same for each of them."""

    socket_path: str  # of the link to the front
    generation: int  # counts the generations of this front, from 1
    num_ranks: int
    model: str  # the checkpoint's folder
    device: str  # cpu, cuda or auto
    dtype: str  # float32, bfloat16, float16 or auto
    kernels: str  # auto or reference
    fp8_weights: bool
    fp8_activations: bool
    fp8_kv_cache: bool
    threads: int
    block_tokens: int
    kv_cache_memory_bytes: int
    max_step_tokens: int
    max_running: int
    max_waiting: int
    max_waiting_prompt_tokens: int
    max_context: int | None  # None: the model's own
    step_limit_ms: int
    heartbeat_ms: int
    log_format: LogFormat
    log_level: LogLevel

    def to_json(self) -> str:
        """The text that ENVIRONMENT_NAME holds."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RankConfig:
        """Reads what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values)

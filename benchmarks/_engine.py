"""An engine with the limits that a worker group has by default; threads and memory as a rank's."""

from __future__ import annotations

import os
from pathlib import Path

from services.worker.config import WorkerSettings
from services.worker.rank.kept_memory import keep_freed_memory
from services.worker.rank.thread_waiting import thread_waiting

os.environ.update(thread_waiting(os.environ))  # read by OpenMP when torch is imported

from services.worker.engine.engine import Engine
from services.worker.engine.engine_config import EngineConfig, count_kv_blocks
from services.worker.front.preflight import DEFAULT_MAX_KV_CACHE_BYTES
from services.worker.kernels import Backend
from services.worker.models import Model, load_model
from services.worker.rank.loading import choose_device


def build_engine(
    folder: Path,
    device: str,
    threads: int,
    kv_cache_memory_bytes: int = DEFAULT_MAX_KV_CACHE_BYTES,
    kernels: Backend = "auto",
) -> Engine:
    """As a rank builds it."""
    keep_freed_memory()
    settings = WorkerSettings(model=folder)
    model = load_model(
        folder,
        device=choose_device(device),
        dtype=None,
        num_threads=threads,
        backend=kernels,
    )
    return Engine(model=model, config=_engine_config(settings, model, kv_cache_memory_bytes))


def _engine_config(
    settings: WorkerSettings, model: Model, kv_cache_memory_bytes: int
) -> EngineConfig:
    return EngineConfig(
        num_blocks=count_kv_blocks(
            kv_cache_memory_bytes=kv_cache_memory_bytes,
            bytes_per_block=model.kv_bytes_per_block(settings.block_tokens),
            block_tokens=settings.block_tokens,
            max_running=settings.max_running,
            max_context=model.config.max_context,
        ),
        block_tokens=settings.block_tokens,
        max_step_tokens=settings.max_step_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_waiting_prompt_tokens=settings.max_waiting_prompt_tokens,
        max_context=model.config.max_context,
    )

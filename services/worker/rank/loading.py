"""From the rank's settings to an engine that can step, and to what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from octavo.errors import FailedPreconditionError, invalid_field
from octavo.fingerprint import numerics_fingerprint
from services.worker.engine.engine import Engine
from services.worker.engine.engine_config import EngineConfig, count_kv_blocks
from services.worker.link.messages import Ready
from services.worker.link.rank_config import RankConfig
from services.worker.link.rank_end import RankEnd
from services.worker.models import Model, load_model
from services.worker.rank.load_progress import LoadProgress

_DTYPES = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """An engine, and the message that says what it holds."""

    engine: Engine
    ready: Ready


def load(config: RankConfig, rank: int, link: RankEnd) -> Loaded:
    """Loads the model's part of this rank and builds its engine. Raises OctavoError."""
    device = choose_device(config.device)
    model = load_model(
        Path(config.model),
        device=device,
        dtype=_DTYPES[config.dtype],
        rank=rank,
        size=config.num_ranks,
        num_threads=config.threads,
        backend=config.kernels,
        fp8_weights=config.fp8_weights,
        fp8_activations=config.fp8_activations,
        fp8_kv_cache=config.fp8_kv_cache,
        on_progress=LoadProgress(link.send).report,
    )
    limits = engine_config(config, model)
    engine = Engine(model=model, config=limits)
    return Loaded(engine=engine, ready=_ready(config, model, limits, device))


def choose_device(name: str) -> torch.device:
    """The device for cpu, cuda or auto. Raises FailedPreconditionError without a GPU for cuda."""
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise FailedPreconditionError(
            "--device is cuda, but torch finds no GPU here; cpu and auto work.", reason="NO_GPU"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and has_gpu) else "cpu")


def engine_config(config: RankConfig, model: Model) -> EngineConfig:
    """The engine's limits, with the cache as large as its memory allows."""
    max_context = config.max_context or model.config.max_context
    if max_context > model.config.max_context:
        limit = f"at most {model.config.max_context}, what the model was made for"
        raise invalid_field("--max-context", max_context, limit)
    num_blocks = count_kv_blocks(
        kv_cache_memory_bytes=config.kv_cache_memory_bytes,
        bytes_per_block=model.kv_bytes_per_block(config.block_tokens),
        block_tokens=config.block_tokens,
        max_running=config.max_running,
        max_context=max_context,
    )
    return EngineConfig(
        num_blocks=num_blocks,
        block_tokens=config.block_tokens,
        max_step_tokens=config.max_step_tokens,
        max_running=config.max_running,
        max_waiting=config.max_waiting,
        max_waiting_prompt_tokens=config.max_waiting_prompt_tokens,
        max_context=max_context,
    )


def numerics(config: RankConfig, model: Model, device: torch.device) -> dict[str, str]:
    """What decides the bits of the logits, given the checkpoint.

    The number of threads does on a CPU: the backend picks its row tiles for it.
    """
    on_gpu = device.type == "cuda"
    return {
        "backend": model.backend,
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "instruction_set": "" if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": "" if on_gpu else str(config.threads),
        "dtype": str(model.dtype),
        "fp8": ", ".join(_fp8_choices(config)),
        "tensor_parallel_degree": str(config.num_ranks),
        "torch": torch.__version__,
    }


def _fp8_choices(config: RankConfig) -> list[str]:
    """What is rounded to FP8 because the operator asked for it."""
    chosen = {
        "weights": config.fp8_weights,
        "activations": config.fp8_activations,
        "kv_cache": config.fp8_kv_cache,
    }
    return [name for name, is_chosen in chosen.items() if is_chosen]


def _ready(config: RankConfig, model: Model, limits: EngineConfig, device: torch.device) -> Ready:
    sampling = model.config.sampling
    return Ready(
        max_context_tokens=limits.context_limit,
        vocabulary_size=model.config.vocab_size,
        eos_token_ids=list(model.config.eos_ids),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        dtype=str(model.dtype).removeprefix("torch."),
        numerics_fingerprint=numerics_fingerprint(numerics(config, model, device)),
        kv_blocks=limits.num_blocks,
        kv_block_tokens=limits.block_tokens,
    )

"""The settings of a worker group, read by its front alone: ranks get link/rank_config.py."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from octavo.admin_address import ADMIN_ADDRESS_HELP, AdminAddress
from octavo.hub.settings import ModelSettings
from octavo.logs import LogFormat, LogLevel

PROGRAM = "python -m services.worker"


class WorkerSettings(ModelSettings):
    """One model on the devices of one machine."""

    model_name: str | None = Field(
        None, description="Name of the model; the folder's or the hub's by default."
    )
    num_devices: int = Field(1, ge=1, description="Ranks, one a device.")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "auto", description="Where the ranks run; auto takes a GPU where there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of activations; auto is the checkpoint's own."
    )
    kernels: Literal["auto", "reference", "avx512bf16", "avx2"] = Field(
        "auto",
        description="What computes; reference is plain torch, slow, everywhere the same; others "
        "are compiled kernels for CPUs, of which auto takes the best.",
    )
    quantization: Literal["fp8", "8bit"] | None = Field(
        None, description="Rounds 16-bit weights to FP8 as they load; 8bit means the same."
    )
    activation_dtype: Literal["auto", "fp8"] = Field(
        "auto",
        description="fp8 rounds the inputs of FP8 matrices as the checkpoint declares it; auto "
        "leaves them in the type of activations.",
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field(
        "auto", description="fp8 stores keys and values in FP8; auto as activations are."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8003, ge=0, le=65535, description="Port for gRPC; 0 takes a free one.")
    metrics_port: int = Field(8283, ge=0, le=65535, description="Port for /metrics.")
    admin_address: AdminAddress | None = Field(None, description=ADMIN_ADDRESS_HELP)
    ready_file: Path | None = Field(None, description="Gets the ports as JSON once they are bound.")
    threads: int = Field(
        0,
        ge=0,
        description="CPU threads of each rank; 0: one for each core that this process may use.",
    )
    block_tokens: int = Field(16, ge=1, le=1024, description="Tokens of one KV block.")
    kv_cache_memory_bytes: int | None = Field(
        None, ge=1, description="Bytes of KV cache per rank; 1 GiB or a quarter of what is free."
    )
    max_running: int = Field(64, ge=1, description="Outputs of one step.")
    max_step_tokens: int = Field(512, ge=1, description="Tokens of one step.")
    max_waiting: int = Field(256, ge=1, description="Outputs that may wait.")
    max_waiting_prompt_tokens: int = Field(
        262_144, ge=1, description="Prompt tokens that may wait."
    )
    max_context: int | None = Field(
        None, ge=2, description="Tokens of prompt and output together; the model's own by default."
    )
    step_limit_ms: int = Field(
        60_000, ge=100, description="A rank whose step takes longer counts as lost."
    )
    heartbeat_limit_ms: int = Field(
        4_000, ge=1_000, description="A rank that is silent for longer counts as lost."
    )
    start_limit_s: float = Field(
        1_800, gt=0, description="Ranks that have not loaded after this long are given up."
    )
    max_restarts: int = Field(
        5, ge=0, description="Starts that may fail in a row before the process ends."
    )
    drain_limit_s: float = Field(
        30, ge=0, description="After SIGTERM, open requests have this long to finish."
    )
    log_format: LogFormat = Field("console", description="Logs for people or as JSON.")
    log_level: LogLevel = Field("info", description="Least severe log lines to write.")

    @field_validator("num_devices")
    @classmethod
    def _only_one_device_yet(cls, value: int) -> int:
        if value > 1:
            raise ValueError("tensor parallelism is not built yet; what works is 1")
        return value

    @field_validator("max_step_tokens")
    @classmethod
    def _a_step_holds_all_decodes(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("max_running", 0):
            raise ValueError(f"it must be at least --max-running ({info.data['max_running']})")
        return value

    @property
    def served_name(self) -> str:
        """The name under which the model is served."""
        return self.model_name or self.hf_model_name or self.folder.resolve().name

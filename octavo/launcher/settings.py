"""What the user of `octavo serve` chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from octavo.hub.settings import check_one_model
from octavo.settings import ProcessSettings
from octavo.web_origin import WEB_ORIGIN_HELP, WebOrigins

PROGRAM = "octavo serve"
_WORKER_OPTIONS = (
    "dtype",
    "quantization",
    "activation_dtype",
    "kv_cache_dtype",
    "threads",
    "max_context",
    "max_running",
    "max_step_tokens",
    "kv_cache_memory_bytes",
)


class ServeSettings(ProcessSettings):
    """All three services on this machine; the small default model unless --model names another."""

    host: str = Field("127.0.0.1", description="Address that HTTP and gRPC listen on.")
    http_port: int = Field(8000, ge=0, le=65535, description="Port for HTTP; 0 takes a free one.")
    grpc_port: int = Field(8001, ge=0, le=65535, description="Port for gRPC; 0 takes a free one.")
    metrics_port: int = Field(8281, ge=0, le=65535, description="Port for /metrics; 0: any.")
    cors_origin: WebOrigins = Field([], description=WEB_ORIGIN_HELP)
    docs: bool = Field(True, description="Whether the HTTP API describes itself at /docs.")
    model: Path | None = Field(
        None, description="Folder of a checkpoint; without it, the default model."
    )
    hf_model_name: str | None = Field(
        None, description="ORG/NAME on the hub instead of a folder; HF_TOKEN holds a token."
    )
    hf_revision: str | None = Field(
        None, description="Branch, tag or commit of --hf-model-name; its main branch by default."
    )
    model_name: str | None = Field(
        None, description="Name of the model; the folder's or the hub's by default."
    )
    chat_template: str | None = Field(
        None, description="llama-2, or a file of Jinja; without it, the checkpoint's own."
    )
    num_devices: int = Field(1, ge=1, description="Devices that share the model.")
    device: Literal["cpu", "cuda", "auto"] = Field("auto", description="Where the model runs.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = Field(
        None, description="Type of activations; without it, the checkpoint's own."
    )
    quantization: Literal["fp8", "8bit"] | None = Field(
        None, description="Rounds 16-bit weights to FP8 as they load; 8bit means the same."
    )
    activation_dtype: Literal["auto", "fp8"] | None = Field(
        None, description="fp8 rounds the inputs of FP8 matrices as the checkpoint declares it."
    )
    kv_cache_dtype: Literal["auto", "fp8"] | None = Field(
        None, description="fp8 stores keys and values in FP8."
    )
    threads: int | None = Field(None, ge=0, description="CPU threads of the model.")
    max_context: int | None = Field(None, ge=2, description="Tokens of prompt and output together.")
    max_running: int | None = Field(None, ge=1, description="Requests that run at once.")
    max_step_tokens: int | None = Field(None, ge=1, description="Tokens of one step.")
    kv_cache_memory_bytes: int | None = Field(None, ge=1, description="Bytes of KV cache.")
    drain_limit_s: float = Field(
        10, ge=0, description="At the end, open requests have this long to finish."
    )
    log_folder: Path | None = Field(
        None, description="Folder for the services' logs; without it, one in ~/.local/state/octavo."
    )
    verbose: bool = Field(False, description="Show what the services log.")

    @property
    def tokenizer_options(self) -> list[str]:
        """The flags that go on to the tokenizer as they are."""
        return [] if self.chat_template is None else [f"--chat-template={self.chat_template}"]

    @property
    def gateway_options(self) -> list[str]:
        """The flags of the HTTP API that go on to the gateway as they are."""
        origins = [f"--cors-origin={origin}" for origin in self.cors_origin]
        return origins if self.docs else [*origins, "--no-docs"]

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        check_one_model(self.model, self.hf_model_name, self.hf_revision)
        return self

    @property
    def worker_options(self) -> list[str]:
        """The flags that go on to the worker as they are."""
        chosen = {name: getattr(self, name) for name in _WORKER_OPTIONS}
        return [
            f"--{name.replace('_', '-')}={value}"
            for name, value in chosen.items()
            if value is not None
        ]

"""The settings of a tokenizer process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from octavo.admin_address import ADMIN_ADDRESS_HELP, AdminAddress
from octavo.hub.settings import ModelSettings
from octavo.logs import LogFormat, LogLevel

PROGRAM = "python -m services.tokenizer"


class TokenizerSettings(ModelSettings):
    """The tokenizer of one model."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8002, ge=0, le=65535, description="Port for gRPC; 0 takes a free one.")
    metrics_port: int = Field(8282, ge=0, le=65535, description="Port for /metrics.")
    admin_address: AdminAddress | None = Field(None, description=ADMIN_ADDRESS_HELP)
    ready_file: Path | None = Field(None, description="Gets the ports as JSON once they are bound.")
    threads: int = Field(2, ge=1, description="Threads that encode and decode.")
    max_text_bytes: int = Field(
        4 * 1024 * 1024, ge=1, description="Bytes of one text, or of one rendered conversation."
    )
    max_batch: int = Field(1_024, ge=1, description="Texts or id lists of one call.")
    max_decoders: int = Field(4_096, ge=1, description="Decoders that one stream may have open.")
    chat_template: str = Field(
        "auto",
        description="auto: the folder's own, or Llama 2's for its chat models; llama-2; or a file.",
    )
    template_time_limit_s: float = Field(
        2.0, gt=0, description="Seconds that a chat template may take."
    )
    template_memory_bytes: int = Field(
        512 * 1024 * 1024, ge=64 * 1024 * 1024, description="Memory that a chat template may take."
    )
    drain_limit_s: float = Field(
        30, ge=0, description="After SIGTERM, open calls have this long to finish."
    )
    log_format: LogFormat = Field("console", description="Logs for people or as JSON.")
    log_level: LogLevel = Field("info", description="Least severe log lines to write.")

"""The settings of a gateway process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from octavo.admin_address import ADMIN_ADDRESS_HELP, AdminAddress
from octavo.client.addresses import parse_target
from octavo.logs import LogFormat, LogLevel
from octavo.settings import ProcessSettings
from octavo.web_origin import WEB_ORIGIN_HELP, WebOrigins


class GatewaySettings(ProcessSettings):
    """Flags of `python -m gateway`, also as OCTAVO_* in the environment and keys of --config."""

    host: str = Field(default="127.0.0.1", description="Address that HTTP, gRPC and metrics bind.")
    http_port: int = Field(
        default=8000, ge=0, le=65535, description="Port of the HTTP API; 0: a free one."
    )
    grpc_port: int = Field(
        default=8001, ge=0, le=65535, description="Port of the gRPC API; 0: a free one."
    )
    metrics_port: int = Field(
        default=8281, ge=0, le=65535, description="Port of /metrics; 0: a free one."
    )
    worker: list[str] = Field(
        default=["127.0.0.1:8003"],
        min_length=1,
        description="host:port of a worker group, repeatable; a name stands for all its addresses.",
    )
    tokenizer: list[str] = Field(
        default=["127.0.0.1:8002"],
        min_length=1,
        description="host:port of a tokenizer, repeatable; a name stands for all its addresses.",
    )
    tokenizer_wait_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds that a request whose tokenizer was lost waits for another.",
    )
    max_requests: int = Field(
        default=1_024,
        ge=1,
        description="Requests that may be open at once; one of n outputs counts as n.",
    )
    max_request_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1,
        description="Bytes of input that open requests may hold together.",
    )
    max_prompt_bytes: int = Field(
        default=1024 * 1024,
        ge=1,
        description="Bytes of text that one prompt or conversation may have.",
    )
    max_session_requests: int = Field(
        default=256, ge=1, description="Requests that one gRPC session may have open."
    )
    drain_limit_s: float = Field(
        default=30.0, ge=0, description="Seconds that open requests have to finish after SIGTERM."
    )
    cors_origin: WebOrigins = Field(default=[], description=WEB_ORIGIN_HELP)
    docs: bool = Field(default=True, description="Whether the HTTP API describes itself at /docs.")
    max_connection_age_s: float | None = Field(
        default=None,
        ge=1,
        description="Seconds after which gRPC clients are asked to connect anew, so that they find"
        " new replicas; open calls go on. Absent: never.",
    )
    reflection: bool = Field(default=True, description="Whether gRPC server reflection is served.")
    admin_address: AdminAddress | None = Field(default=None, description=ADMIN_ADDRESS_HELP)
    ready_file: Path | None = Field(
        default=None,
        description="File that receives the bound ports as JSON once all listeners are up.",
    )
    log_format: LogFormat = Field(default="console", description="console or json.")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")

    @field_validator("worker", "tokenizer")
    @classmethod
    def _addresses(cls, addresses: list[str]) -> list[str]:
        for address in addresses:
            parse_target(address)
        return addresses

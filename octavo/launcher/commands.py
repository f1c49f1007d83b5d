"""The command line of each service."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.hub.fetch import FETCH
from octavo.launcher.settings import ServeSettings

Command = Sequence[str]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Commands:
    """How each program starts, before its flags."""

    prepare: Command = (sys.executable, "-m", "services.worker.tools.prepare", "--relayed")
    fetch: Command = FETCH
    tokenizer: Command = (sys.executable, "-m", "services.tokenizer")
    worker: Command = (sys.executable, "-m", "services.worker")
    gateway: Command = (sys.executable, "-m", "gateway")


def tokenizer_command(
    commands: Commands, settings: ServeSettings, model: Path, ready_file: Path
) -> list[str]:
    """The tokenizer on a free port."""
    return [
        *commands.tokenizer,
        *_inner(settings, model, ready_file),
        *settings.tokenizer_options,
    ]


def worker_command(
    commands: Commands, settings: ServeSettings, model: Path, ready_file: Path
) -> list[str]:
    """The worker group on a free port."""
    return [
        *commands.worker,
        *_inner(settings, model, ready_file),
        f"--model-name={model_name(settings, model)}",
        f"--num-devices={settings.num_devices}",
        f"--device={settings.device}",
        *settings.worker_options,
    ]


def gateway_command(
    commands: Commands, settings: ServeSettings, *, tokenizer: str, worker: str, ready_file: Path
) -> list[str]:
    """The gateway on the ports that the user chose."""
    return [
        *commands.gateway,
        f"--host={settings.host}",
        f"--http-port={settings.http_port}",
        f"--grpc-port={settings.grpc_port}",
        f"--metrics-port={settings.metrics_port}",
        *settings.gateway_options,
        f"--tokenizer={tokenizer}",
        f"--worker={worker}",
        f"--drain-limit-s={settings.drain_limit_s}",
        f"--ready-file={ready_file}",
    ]


def model_name(settings: ServeSettings, model: Path) -> str:
    """The name that requests may give."""
    return settings.model_name or settings.hf_model_name or model.name


def _inner(settings: ServeSettings, model: Path, ready_file: Path) -> list[str]:
    """What tokenizer and worker share: only the gateway on this machine calls them."""
    return [
        f"--model={model}",
        f"--host={LOOPBACK}",
        "--port=0",
        "--metrics-port=0",
        f"--drain-limit-s={settings.drain_limit_s}",
        f"--ready-file={ready_file}",
    ]

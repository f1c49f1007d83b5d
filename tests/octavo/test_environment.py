"""octavo.environment: what no process reads is named, with the nearest name that one does."""

from __future__ import annotations

import pytest
import structlog

from gateway.config import GatewaySettings
from octavo.environment import KNOWN_NAMES, unknown_variables, warn_of_unknown_variables
from octavo.launcher.settings import ServeSettings
from services.tokenizer.config import TokenizerSettings
from services.worker.config import WorkerSettings

SETTINGS = (GatewaySettings, ServeSettings, TokenizerSettings, WorkerSettings)
# Read elsewhere than in a process's settings.
OTHERS = {"ADDRESS", "METRICS_ADDRESS", "CACHE_DIR", "COMMIT", "PARENT_PID", "RANK_CONFIG"}


def test_the_table_is_what_the_processes_read() -> None:
    fields = {name.upper() for settings in SETTINGS for name in settings.model_fields}
    assert fields | OTHERS == KNOWN_NAMES


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OCTAVO_HTTP_PROT", "1", ["OCTAVO_HTTP_PROT; did you mean OCTAVO_HTTP_PORT?"]),
        ("octavo_wroker", "a:1", ["octavo_wroker; did you mean OCTAVO_WORKER?"]),
        ("OCTAVO_XYZ", "", ["OCTAVO_XYZ"]),
        ("OCTAVO_MAX_DECODERS", "1", []),  # of another process than the gateway
        ("octavo_http_port", "1", []),
        ("OCTAVOS_HTTP_PROT", "1", []),
        ("OCTAVO_GATEWAY_SERVICE_HOST", "10.0.0.1", []),  # Kubernetes
        ("OCTAVO_GATEWAY_SERVICE_PORT_HTTP", "8000", []),
        ("OCTAVO_GATEWAY_PORT", "tcp://10.0.0.1:8000", []),
        ("OCTAVO_GATEWAY_PORT_8000_TCP_ADDR", "10.0.0.1", []),
        ("OCTAVO_HTPT_PORT", "1", ["OCTAVO_HTPT_PORT; did you mean OCTAVO_HTTP_PORT?"]),
    ],
)
def test_what_nobody_reads_is_named(name: str, value: str, told: list[str]) -> None:
    assert unknown_variables({name: value, "PATH": "/bin"}) == told


def test_all_are_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_DOC", "1")
    monkeypatch.setenv("OCTAVO_ABC", "1")
    with structlog.testing.capture_logs() as lines:
        warn_of_unknown_variables()
    (line,) = lines
    assert line["log_level"] == "warning"
    assert line["variables"] == ["OCTAVO_ABC", "OCTAVO_DOC; did you mean OCTAVO_DOCS?"]


def test_nothing_is_said_where_all_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_DOCS", "1")
    with structlog.testing.capture_logs() as lines:
        warn_of_unknown_variables()
    assert lines == []

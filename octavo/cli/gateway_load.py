"""How busy a gateway and its services are, read from its /metrics."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from octavo.errors import UnavailableError

# A gateway is near: a proxy of the environment is meant for the web.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLoad:
    """One worker group, as the gateway last heard of it."""

    address: str
    ready: bool
    ranks: int
    requests_running: int
    requests_waiting: int
    kv_blocks_used: int
    kv_blocks_total: int
    generated_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerState:
    """One tokenizer, as the gateway last heard of it."""

    address: str
    ready: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayLoad:
    """One look at a gateway; `read_at_s` is on time.monotonic()."""

    read_at_s: float
    requests_open: int
    workers: Sequence[WorkerLoad]
    tokenizers: Sequence[TokenizerState]


def read_load(address: str, timeout_s: float) -> GatewayLoad:
    """Reads the metrics listener at `address` (host:port). Raises UnavailableError."""
    try:
        with _OPENER.open(f"http://{address}/metrics", timeout=timeout_s) as answer:
            text = answer.read().decode("utf-8", "replace")
        return load_from_metrics(text, read_at_s=time.monotonic())
    except http.client.HTTPException as error:
        raise _no_metrics(address, "what listens there speaks no HTTP") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        raise _no_metrics(address, getattr(cause, "strerror", None) or str(cause)) from error


def load_from_metrics(text: str, *, read_at_s: float) -> GatewayLoad:
    """The load that a gateway's Prometheus text says; ValueError where it is none."""
    values = _values(text)
    if "octavo_gateway_requests_open" not in values:
        raise ValueError("it counts no requests")
    workers = values["octavo_worker_ready"]
    tokenizers = values["octavo_tokenizer_ready"]
    return GatewayLoad(
        read_at_s=read_at_s,
        requests_open=int(sum(values["octavo_gateway_requests_open"].values())),
        workers=tuple(_worker(address, values) for address in workers),
        tokenizers=tuple(
            TokenizerState(address=address, ready=bool(ready))
            for address, ready in tokenizers.items()
        ),
    )


def _values(text: str) -> Mapping[str, dict[str, float]]:
    """By metric, then by the address that labels it ("" where nothing does)."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            address = sample.labels.get("worker") or sample.labels.get("tokenizer") or ""
            values[sample.name][address] = sample.value
    return values


def _worker(address: str, values: Mapping[str, Mapping[str, float]]) -> WorkerLoad:
    def value(name: str) -> int:
        return int(values[f"octavo_worker_{name}"].get(address, 0))

    return WorkerLoad(
        address=address,
        ready=bool(value("ready")),
        ranks=value("ranks"),
        requests_running=value("requests_running"),
        requests_waiting=value("requests_waiting"),
        kv_blocks_used=value("kv_blocks_used"),
        kv_blocks_total=value("kv_blocks_total"),
        generated_tokens=value("generated_tokens_total"),
    )


def _no_metrics(address: str, cause: str) -> UnavailableError:
    return UnavailableError(
        f"No metrics of a gateway at http://{address}/metrics: {cause}",
        reason="NO_METRICS",
        metadata={"address": address},
    )

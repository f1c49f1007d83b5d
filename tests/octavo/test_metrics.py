"""octavo.metrics: Prometheus text over HTTP."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

import octavo
from octavo.build_info import commit
from octavo.metrics import MetricsServer, process_registry
from octavo.metrics_listener import MAX_CONNECTIONS
from octavo.rpc.server import AddressInUseError


def test_every_process_says_its_build_its_resources_and_its_lost_lines() -> None:
    registry = process_registry("gateway")
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= names
    labels = {"service": "gateway", "version": octavo.__version__, "commit": commit()}
    assert registry.get_sample_value("octavo_build_info", labels) == 1
    assert registry.get_sample_value("octavo_log_lines_dropped_total") == 0


def test_a_registry_is_served_until_closed() -> None:
    registry = CollectorRegistry()
    Gauge("octavo_example", "An example.", registry=registry).set(3)
    server = MetricsServer.start(registry, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert "octavo_example 3.0" in answer.read().decode()
    finally:
        server.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics")


def test_a_busy_port_is_an_error() -> None:
    server = MetricsServer.start(CollectorRegistry(), "127.0.0.1", 0)
    try:
        with pytest.raises(AddressInUseError, match=rf"127\.0\.0\.1:{server.port}.*in use"):
            MetricsServer.start(CollectorRegistry(), "127.0.0.1", server.port)
    finally:
        server.close()


def test_silent_connections_take_no_more_than_their_places() -> None:
    server = MetricsServer.start(CollectorRegistry(), "127.0.0.1", 0)
    num_threads = threading.active_count()
    address = ("127.0.0.1", server.port)
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(100)]
        for one in silent[MAX_CONNECTIONS:]:
            one.settimeout(20)
            assert one.recv(1) == b""  # closed
        assert threading.active_count() <= num_threads + MAX_CONNECTIONS


def test_other_paths_are_not_found() -> None:
    server = MetricsServer.start(CollectorRegistry(), "127.0.0.1", 0)
    try:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/other")
    finally:
        server.close()

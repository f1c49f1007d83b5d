"""`octavo status`: how busy the server is, once or live."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from octavo.cli.exit_status import OK
from octavo.cli.flag_groups import ServerFlags, with_flag_groups
from octavo.cli.gateway_load import read_load
from octavo.cli.load_output import load_output
from octavo.cli.load_report import LoadReport
from octavo.client.addresses import Target, full_address, parse_target
from octavo.client.defaults import DEFAULT_METRICS_PORT
from octavo.errors import UnavailableError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_READ_LIMIT_S = 5.0


@app.command()
@with_flag_groups
def status(
    *,
    watch: Annotated[
        bool | None,
        typer.Option(
            "--watch/--once",
            show_default="--watch on a terminal",
            help="Show it again and again until Ctrl-C, or once.",
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, help="The time over which tokens/s are counted."),
    ] = 1.0,
    metrics_address: Annotated[
        str | None,
        typer.Option(
            envvar="OCTAVO_METRICS_ADDRESS",
            metavar="HOST:PORT",
            show_default=f"port {DEFAULT_METRICS_PORT} of --address",
            help="Where the gateway serves its metrics.",
        ),
    ] = None,
    server: ServerFlags,
) -> int:
    """Shows how busy the server is, live on a terminal.

    Worker groups with their ranks, running and queued requests, KV blocks and tokens/s, all from
    the metrics of the gateway.

    \b
    Examples:
      octavo status
      octavo status --once
      octavo status --once --json | jq .workers[0].requests_waiting
      octavo status --address gateway.example:8001 --watch --json
    """
    address = metrics_address or _metrics_address(server.address)
    is_live = sys.stdout.isatty() and not server.json if watch is None else watch
    output = load_output(address, json=server.json)
    reports = _reports(address, interval, timeout_s=min(server.timeout, _READ_LIMIT_S))
    try:
        for report in reports if is_live else itertools.islice(reports, 1):
            output.show(report)
    except KeyboardInterrupt:
        if not is_live:
            raise
    return OK


def _metrics_address(address: str) -> str:
    return str(Target(parse_target(full_address(address)).host, DEFAULT_METRICS_PORT))


def _reports(
    address: str, interval_s: float, *, timeout_s: float
) -> Iterator[LoadReport | UnavailableError]:
    """A report every `interval_s`. The first look must succeed; later ones may fail and recover."""
    before = read_load(address, timeout_s)
    while True:
        time.sleep(interval_s)
        try:
            now = read_load(address, timeout_s)
        except UnavailableError as error:
            yield error
        else:
            yield LoadReport(before, now)
            before = now

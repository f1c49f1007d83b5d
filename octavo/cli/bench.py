"""`octavo bench`: how fast a running server answers under load, and how evenly."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

import octavo
from octavo.bench.doors import DOORS
from octavo.bench.load import closed_loop, open_loop, poisson_arrivals
from octavo.bench.sample import Sample
from octavo.bench.summary import Limits, summarise
from octavo.bench.target import ModelLimits, Target
from octavo.bench.workload import Workload
from octavo.cli.answer_output import print_json
from octavo.cli.exit_status import FAILED, OK
from octavo.cli.flag_groups import ServerFlags, with_flag_groups
from octavo.client.addresses import full_address
from octavo.client.timeouts import chosen_timeout_s
from octavo.errors import FailedPreconditionError, invalid_field

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_SHORTEST_PROMPT, _LONGEST_PROMPT = 5, 400


class DoorName(StrEnum):
    """The keys of DOORS."""

    UNARY = "unary"
    STREAM = "stream"
    SESSION = "session"
    HTTP = "http"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadFlags:
    """What is sent, and when."""

    door: Annotated[DoorName, typer.Option(help="The way in.")] = DoorName.STREAM
    http: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The server's HTTP address; --door http needs it and no other."
        ),
    ] = None
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, help="Clients with one request open each.")
    ] = 8
    requests: Annotated[int, typer.Option(metavar="N", min=1, help="How many in all.")] = 32
    rate: Annotated[
        float | None,
        typer.Option(metavar="X", min=0.001, help="Send so many a second instead, at random."),
    ] = None
    cancelled_share: Annotated[
        float,
        typer.Option(metavar="X", min=0, max=1, help="Cancel this share of them midway."),
    ] = 0.0
    max_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens of each answer, exactly.")
    ] = 64
    temperature: Annotated[float, typer.Option(metavar="X", help="0 is greedy.")] = 0.0
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds send equal prompts.")] = 0
    first_token_limit_ms: Annotated[
        float, typer.Option(metavar="MS", help="A good answer begins within this.")
    ] = 2_000.0
    inter_token_limit_ms: Annotated[
        float, typer.Option(metavar="MS", help="A good answer's tokens take this on average.")
    ] = 200.0


@app.command()
@with_flag_groups
def bench(*, load: LoadFlags, server: ServerFlags) -> int:
    """Says how fast and how evenly a server answers under load.

    Prompts are 5 to 400 random token ids; what the answers say is not looked at.

    \b
    Examples:
      octavo bench
      octavo bench --concurrency 32 --requests 128
      octavo bench --rate 5 --requests 100 --cancelled-share 0.2
      octavo bench --door http --http http://127.0.0.1:8000 --json
    """
    target = Target(
        grpc=full_address(server.address),
        http=load.http,
        temperature=load.temperature,
        request_limit_s=chosen_timeout_s(server.timeout, None),
    )
    workload = _workload(_model_limits(load, server), load)
    samples = asyncio.run(_run(target, workload, load))
    limits = Limits(
        first_token_ms=load.first_token_limit_ms, inter_token_ms=load.inter_token_limit_ms
    )
    figures = summarise([samples], limits)
    if server.json:
        print_json({"door": load.door.value, **figures})
    else:
        print("\n".join(_lines(figures)))
    return FAILED if figures["errors"] else OK


def _model_limits(load: LoadFlags, server: ServerFlags) -> ModelLimits:
    """Asked for through the door that is measured."""
    if load.door is DoorName.HTTP:
        return _model_limits_over_http(load.http, chosen_timeout_s(server.timeout, None))
    with octavo.Client(server.address, timeout=server.timeout, retries=0) as client:
        model = client.model()
    return ModelLimits(
        vocabulary_size=model.vocabulary_size, max_context_tokens=model.max_context_tokens
    )


def _model_limits_over_http(url: str | None, timeout_s: float | None) -> ModelLimits:
    if url is None:
        raise invalid_field("http", None, "the server's http://host:port, with --door http")
    if importlib.util.find_spec("httpx") is None:
        raise FailedPreconditionError("--door http needs more: pip install 'octavo[bench]'.")
    from octavo.bench.http_door import model_limits  # noqa: PLC0415 - httpx is optional

    return model_limits(url, timeout_s=timeout_s)


def _workload(model: ModelLimits, load: LoadFlags) -> Workload:
    longest = min(_LONGEST_PROMPT, model.max_context_tokens - load.max_tokens)
    if longest < _SHORTEST_PROMPT:
        limit = f"at most {model.max_context_tokens - _SHORTEST_PROMPT} with this model"
        raise invalid_field("max_tokens", load.max_tokens, limit)
    return Workload(
        vocabulary_size=model.vocabulary_size,
        max_tokens=load.max_tokens,
        shortest_prompt=_SHORTEST_PROMPT,
        longest_prompt=longest,
        cancelled_share=load.cancelled_share,
        seed=load.seed,
    )


async def _run(target: Target, workload: Workload, load: LoadFlags) -> list[Sample]:
    jobs = itertools.islice(workload.jobs(), load.requests)
    async with DOORS[load.door](target) as door:
        if load.rate is None:
            return await closed_loop(door, jobs, concurrency=load.concurrency)
        arrivals = poisson_arrivals(load.rate, load.seed)
        return await open_loop(door, jobs, arrivals)


def _lines(figures: dict[str, Any]) -> Iterable[str]:
    num_failed = sum(figures["errors"].values())
    yield (
        f"{figures['finished']} finished, {figures['cancelled']} cancelled, {num_failed} failed"
        f" in {figures['seconds']:.1f} s"
    )
    yield from (f"  {count} {reason}" for reason, count in figures["errors"].items())
    yield f"{figures['tokens_per_s']:.1f} tokens/s, {figures['requests_per_s']:.2f} requests/s"
    if figures["good_share"] is not None:
        share, rate = figures["good_share"], figures["good_requests_per_s"]
        yield f"{100 * share:.0f} % within the limits: {rate:.2f} good requests/s"
    yield ""
    yield _row("ms", ("p50", "p90", "p99"))
    for name, title in _PERCENTILES.items():
        if figures[name] is not None:
            yield _row(title, [f"{value:.1f}" for value in figures[name].values()])


_PERCENTILES = {
    "first_token_ms": "first token",
    "inter_token_ms": "between tokens",
    "latency_ms": "whole answer",
}


def _row(title: str, cells: Iterable[str]) -> str:
    return f"{title:<16}" + "".join(f"{cell:>10}" for cell in cells)

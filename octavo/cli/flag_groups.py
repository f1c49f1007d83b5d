"""Flags that several commands share, as dataclasses: each field is a flag."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from octavo.client.defaults import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S

T = TypeVar("T")

Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print counts and times on stderr too.")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFlags:
    """Which server, and how patiently."""

    address: Annotated[
        str,
        typer.Option(
            envvar="OCTAVO_ADDRESS", metavar="HOST:PORT", help="The server's gRPC address."
        ),
    ] = DEFAULT_ADDRESS
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", show_default="600", help="Give up after so long."),
    ] = DEFAULT_TIMEOUT_S
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingFlags:
    """How an answer is drawn, and when it ends. Absent: the model's default."""

    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which model, where several are served.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Stop after so many tokens.")
    ] = None
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="0 is greedy; higher is more varied.")
    ] = None
    top_p: Annotated[
        float | None, typer.Option(metavar="X", help="Keep the likeliest tokens up to this sum.")
    ] = None
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Keep so many of the likeliest tokens.")
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(metavar="X", help="Keep tokens this likely beside the likeliest."),
    ] = None
    frequency_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="Lower tokens by how often they came.")
    ] = None
    presence_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="Lower tokens that came at all.")
    ] = None
    repetition_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="Divide by this where a token came.")
    ] = None
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop before this text; repeatable.")
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Draw the same answer again.")] = (
        None
    )

    def parameters(self) -> dict[str, Any]:
        """The keyword parameters of `Client.stream`."""
        return dataclasses.asdict(self)


def with_flag_groups(command: Callable[..., T]) -> Callable[..., T]:
    """A command that is given dataclasses of flags, as one that takes each of their fields."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        group: type[Any] = parameter.annotation
        if dataclasses.is_dataclass(group):
            groups[parameter.name] = group
            parameters += inspect.signature(group, eval_str=True).parameters.values()
        else:
            parameters.append(parameter)

    def spread(**values: Any) -> T:
        for name, group in groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in dataclasses.fields(group)})
        return command(**values)

    spread.__doc__ = command.__doc__
    spread.__name__ = command.__name__
    spread.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return spread

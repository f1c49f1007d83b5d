"""`octavo models`: what the server serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

import octavo
from octavo.cli.answer_output import print_json
from octavo.cli.exit_status import OK
from octavo.cli.flag_groups import ServerFlags, with_flag_groups
from octavo.cli.table import table

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_flag_groups
def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One model, with its limits and what it accepts."),
    ] = None,
    *,
    server: ServerFlags,
) -> int:
    """Lists the models that the server serves.

    \b
    Examples:
      octavo models
      octavo models SmolLM2-135M-Instruct
      octavo models --json | jq -r .name
    """
    with octavo.Client(server.address, timeout=server.timeout, retries=0) as client:
        found = client.models() if name is None else [client.model(name)]
    if server.json:
        for model in found:
            print_json(dataclasses.asdict(model))
    elif name is None:
        print("\n".join(table(_HEADINGS, map(_row, found))))
    else:
        print("\n".join(_details(found[0])))
    return OK


_HEADINGS = ("NAME", "READY", "CONTEXT", "CHAT", "DEFAULTS")


def _row(model: octavo.Model) -> Sequence[str]:
    defaults = model.defaults
    return (
        model.name,
        "yes" if model.ready else "no",
        str(model.max_context_tokens),
        "yes" if model.chat else "no",
        f"temperature {defaults.temperature:g}, top-p {defaults.top_p:g}, top-k {defaults.top_k}",
    )


def _details(model: octavo.Model) -> Iterable[str]:
    yield from table(_HEADINGS, [_row(model)])
    yield ""
    yield from table(
        ("LIMIT", ""),
        [
            (field.name.removeprefix("max_").replace("_", " "), str(limit))
            for field in dataclasses.fields(model.capabilities)
            if isinstance(limit := getattr(model.capabilities, field.name), int)
        ],
    )
    yield ""
    yield "ACCEPTS"
    yield from (f"  {path}" for path in model.capabilities.fields)

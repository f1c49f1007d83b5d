"""What is wrong with a command line, in one line."""

from __future__ import annotations

from typing import Any

import typer

from octavo.errors import invalid_field


def usage_problem(error: typer.TyperException, program: str) -> tuple[str, str]:
    """The command that was meant, and what is wrong with how it was called."""
    context = getattr(error, "ctx", None)
    program = program if context is None else context.command_path
    flag = getattr(error, "option_name", None)
    near = getattr(error, "possibilities", None)
    if flag is not None and near is not None:
        hint = f"did you mean {near[0]}?" if near else f"{program} --help lists them"
        return program, f"{flag} is not a flag; {hint}"
    problem = " ".join((_wrong_value(error) or error.format_message()).split())
    return program, problem[:1].lower() + problem[1:].rstrip(".")


def _wrong_value(error: typer.TyperException) -> str | None:
    """A value as errors of the server name it; None where something else is wrong."""
    parameter: Any = getattr(error, "param", None)
    details: Any = getattr(error.__cause__, "errors", None)  # typer has pydantic check values
    if parameter is None or details is None:
        return None
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
    detail = details()[0]
    limit = detail["msg"].partition(", unable to parse")[0]
    limit = limit.removeprefix("Input should be ")
    if " is not one of " in limit:
        limit = "one of " + limit.partition(" is not one of ")[2].rstrip(".")
    return invalid_field(name, detail["input"], limit.removeprefix("Value error, ")).message

"""What is wrong with a command line, in one line."""

from __future__ import annotations

import typer


def usage_problem(error: typer.TyperException, program: str) -> tuple[str, str]:
    """The command that was meant, and what is wrong with how it was called."""
    context = getattr(error, "ctx", None)
    program = program if context is None else context.command_path
    flag = getattr(error, "option_name", None)
    near = getattr(error, "possibilities", None)
    if flag is not None and near is not None:
        hint = f"did you mean {near[0]}?" if near else f"{program} --help lists them"
        return program, f"{flag} is not a flag; {hint}"
    problem = " ".join(error.format_message().split())
    return program, problem[:1].lower() + problem[1:].rstrip(".")

"""`octavo complete`: continues a text."""

from __future__ import annotations

from typing import Annotated

import typer

import octavo
from octavo.cli.answer_output import answer_output
from octavo.cli.exit_status import OK
from octavo.cli.flag_groups import SamplingFlags, ServerFlags, Verbose, with_flag_groups
from octavo.cli.interruptible import interruptible
from octavo.cli.message_input import piped_text

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_flag_groups
def complete(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads it from stdin.")
    ],
    *,
    n: Annotated[
        int | None, typer.Option("-n", "--n", metavar="N", help="So many answers.")
    ] = None,
    verbose: Verbose = False,
    sampling: SamplingFlags,
    server: ServerFlags,
) -> int:
    """Continues a text, and prints the continuation as it comes.

    The model sees the text as it is; octavo chat asks it as an assistant.

    \b
    Examples:
      octavo complete "Once upon a time" --max-tokens 50
      octavo complete "1, 2, 3," --temperature 0 --stop 8
      octavo complete - < story.txt
      octavo complete "Hi" --json | jq -j 'select(.event == "delta").text'

    With --json each line is an event: accepted, delta, finished, usage, or error.
    """
    text = piped_text() if prompt == "-" else prompt
    with (
        octavo.Client(server.address, timeout=server.timeout, retries=0) as client,
        answer_output(json=server.json, verbose=verbose) as output,
        client.stream(text, n=n, **sampling.parameters()) as stream,
    ):
        for event in interruptible(stream):
            output.show(event)
    return OK

"""`octavo chat`: a conversation on a terminal, or one question from a pipe."""

from __future__ import annotations

from typing import Annotated

import typer

import octavo
from octavo.cli.answer_output import answer_output
from octavo.cli.chat_loop import ChatLoop
from octavo.cli.conversation import Conversation
from octavo.cli.exit_status import OK
from octavo.cli.flag_groups import SamplingFlags, ServerFlags, Verbose, with_flag_groups
from octavo.cli.message_input import is_terminal, piped_text
from octavo.errors import FailedPreconditionError, invalid_field

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_flag_groups
def chat(
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="Ask this alone, and leave.")
    ] = None,
    *,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the model is to behave.")
    ] = None,
    verbose: Verbose = False,
    sampling: SamplingFlags,
    server: ServerFlags,
) -> int:
    """Talks with the model.

    On a terminal it is a conversation: /help lists its commands, Ctrl-C stops an answer, Ctrl-D
    leaves. A question, or what is piped in, is answered once.

    \b
    Examples:
      octavo chat
      octavo chat "What is the capital of France?"
      octavo chat --system "Answer in one word." --temperature 0
      octavo chat < question.txt
      git diff | octavo chat --system "Write a commit message for this diff."

    With --json each line is an event: accepted, delta, finished, usage, or error.
    """
    with octavo.Client(server.address, timeout=server.timeout, retries=0) as client:
        conversation = Conversation(client, system=system, parameters=sampling.parameters())
        if question is None and is_terminal():
            model = client.model(sampling.model)
            if not model.chat:
                raise FailedPreconditionError(
                    f"{model.name} has no chat template; octavo complete continues a text"
                )
            return ChatLoop(conversation, json=server.json, verbose=verbose).run(
                f"{model.name} at {client.address}"
            )
        content = piped_text().strip() if question is None else question
        if not content:
            raise invalid_field("the question", content, "an argument, or text on stdin")
        with answer_output(json=server.json, verbose=verbose) as output:
            for event in conversation.ask(content):
                output.show(event)
    return OK

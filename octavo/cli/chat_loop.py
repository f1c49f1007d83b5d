"""The conversation on a terminal: messages, commands that begin with /, and Ctrl-C."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable

from octavo.cli.answer_output import answer_output
from octavo.cli.conversation import Conversation
from octavo.cli.exit_status import OK, explanation
from octavo.cli.message_input import QUOTES, edit_lines, read_message
from octavo.errors import OctavoError

_HELP = f"""\
/reset          forget the conversation
/system TEXT    change how the model is to behave; without TEXT, take it away
/exit           leave, as Ctrl-D does
Ctrl-C          stop the answer
{QUOTES}             begin and end a message of many lines; pasted lines stay one message too
A message may begin with / after a space."""


class ChatLoop:
    """Reads and answers until it is told to leave. Failures end an answer, not the conversation."""

    def __init__(self, conversation: Conversation, *, json: bool, verbose: bool) -> None:
        self._conversation = conversation
        self._json = json
        self._verbose = verbose
        self._commands: dict[str, Callable[[str], None]] = {
            "/exit": self._leave,
            "/help": self._help,
            "/reset": self._reset,
            "/system": self._system,
        }
        self._leaving = False

    def run(self, greeting: str) -> int:
        """Talks until the end of input or /exit; the exit status."""
        edit_lines()
        _say(f"{greeting}. /help lists commands, Ctrl-D leaves.")
        while not self._leaving:
            try:
                message = read_message()
            except KeyboardInterrupt:
                _say("\n(Ctrl-D or /exit leaves)")
                continue
            except UnicodeDecodeError:
                _say("(that is no text in UTF-8)")
                continue
            if message is None:
                _say("")
                break
            self._take(message)
        return OK

    def _take(self, message: str) -> None:
        if message.startswith("/"):
            self._command(message)
        elif message.strip():
            self._answer(message)

    def _answer(self, message: str) -> None:
        try:
            with (
                answer_output(json=self._json, verbose=self._verbose) as output,
                contextlib.closing(self._conversation.ask(message)) as events,
            ):
                for event in events:
                    output.show(event)
        except KeyboardInterrupt:
            _say("(stopped)")
        except OctavoError as error:
            _say(f"octavo chat: {explanation(error)}")

    def _command(self, message: str) -> None:
        name, _, rest = message.partition(" ")
        if name in self._commands:
            self._commands[name](rest.strip())
            return
        near = difflib.get_close_matches(name, self._commands, n=1)
        hint = f"did you mean {near[0]}?" if near else "/help lists them"
        _say(f"{name} is not a command; {hint}")

    def _leave(self, _: str) -> None:
        self._leaving = True

    def _help(self, _: str) -> None:
        _say(_HELP)

    def _reset(self, _: str) -> None:
        self._conversation.forget()
        _say("(the conversation starts anew)")

    def _system(self, text: str) -> None:
        self._conversation.instruct(text or None)
        _say("(the model is told so from now on)" if text else "(no system prompt any more)")


def _say(text: str) -> None:
    """What is not an answer goes to stderr."""
    print(text, file=sys.stderr, flush=True)

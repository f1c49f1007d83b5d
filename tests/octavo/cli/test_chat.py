"""`octavo chat`: one question from a pipe, and a conversation on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

from octavo.errors import InvalidArgumentError
from octavo.v1 import generation_pb2 as pb
from tests.octavo.cli.conftest import Run
from tests.octavo.client.scripted_server import (
    Item,
    ScriptedServer,
    accepted,
    chatter,
    delta,
    finished,
    usage,
)

LIMIT_S = 15.0
CTRL_C, CTRL_D = "\x03", "\x04"


def said(request: pb.GenerateRequest) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.chat.messages]


def test_a_piped_question_is_answered_once(server: ScriptedServer, run: Run) -> None:
    done = run("chat", "--system", "Be brief.", "--temperature=0", stdin="Hi\nthere\n")
    assert (done.status, done.out, done.err) == (0, "Hello\n", "")
    assert said(server.requests[0]) == [("system", "Be brief."), ("user", "Hi\nthere")]
    assert server.requests[0].sampling == pb.SamplingParameters(temperature=0)


def test_a_question_may_be_an_argument(server: ScriptedServer, run: Run) -> None:
    assert run("chat", "Hi").out == "Hello\n"
    assert said(server.requests[0]) == [("user", "Hi")]


def test_an_empty_pipe_is_a_mistake(run: Run) -> None:
    done = run("chat", stdin="\n")
    assert done.status == 2
    assert "stdin" in done.err


def test_bytes_that_are_no_text_are_a_mistake(server: ScriptedServer) -> None:
    command = [sys.executable, "-m", "octavo", "chat", "--address", server.address]
    done = subprocess.run(
        command,
        input=b"a\xff",
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"octavo chat: stdin is 255; it must be text in UTF-8.\n"


# Makes stdin the terminal whose Ctrl-C the process gets, and becomes the command.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
PASTE_MODE = re.compile("\x1b\\[\\?2004[hl]\r?")  # readline turns it on and off around each line


class Terminal:
    """`octavo chat` on a terminal."""

    def __init__(self, server: ScriptedServer, *flags: str) -> None:
        self._file, inner = pty.openpty()
        command = [sys.executable, "-c", ON_TERMINAL, "-m", "octavo", "chat", *flags]
        self._process = subprocess.Popen(
            [*command, "--address", server.address],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(inner)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Reads until `pattern` is in what came since the last wait."""
        assert self._reads(pattern, LIMIT_S), f"no {pattern!r} in {self.text!r}"

    def interrupt(self, pattern: str) -> None:
        """Presses Ctrl-C until `pattern` comes: Python's readline has a moment, between its prompt
        and its first wait for a key, in which it takes a signal and waits on.
        """
        for _ in range(int(LIMIT_S)):
            self.type(CTRL_C)
            if self._reads(pattern, 1.0):
                return
        raise AssertionError(f"no {pattern!r} in {self.text!r}")

    def _reads(self, pattern: str, limit_s: float) -> bool:
        give_up_at = time.monotonic() + limit_s
        while not re.search(pattern, self.text):
            left_s = max(0.0, give_up_at - time.monotonic())
            if not select.select([self._file], [], [], left_s)[0]:
                return False
            self.text = PASTE_MODE.sub("", self.text + os.read(self._file, 4096).decode())
        self.text = ""
        return True

    def status(self) -> int:
        return self._process.wait(LIMIT_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._file)


@contextlib.contextmanager
def chatting(server: ScriptedServer, *flags: str) -> Iterator[Terminal]:
    terminal = Terminal(server, *flags)
    try:
        terminal.wait_for("tiny at .*/help lists commands.*\n> ")
        yield terminal
    finally:
        terminal.close()


def echo(request: pb.GenerateRequest) -> Iterator[Item]:
    """Answers with the number of messages that it was told."""
    yield from (accepted(), delta(f"told {len(request.chat.messages)}"), finished(), usage())


def test_a_conversation_with_its_commands(server: ScriptedServer) -> None:
    server.script = echo
    with chatting(server, "--system", "Be brief.") as terminal:
        terminal.type("one\r")
        terminal.wait_for("told 2\r\n> ")
        terminal.type("two\r")
        terminal.wait_for("told 4\r\n> ")
        terminal.type("/rest\r")
        terminal.wait_for(r"/rest is not a command; did you mean /reset\?")
        terminal.type("/reset\r/system\r")
        terminal.wait_for("no system prompt")
        terminal.type("three\r")
        terminal.wait_for("told 1\r\n> ")
        terminal.type("/help\r")
        terminal.wait_for("/system TEXT")
        terminal.type('"""first\rsecond"""\r')
        terminal.wait_for("told 3\r\n> ")
        terminal.type("\x1b[200~pasted\rlines\x1b[201~\r")
        terminal.wait_for("told 5\r\n> ")
        terminal.type(CTRL_D)
        assert terminal.status() == 0
    assert said(server.requests[0])[0] == ("system", "Be brief.")
    assert said(server.requests[-2])[-1] == ("user", "first\nsecond")
    assert said(server.requests[-1])[-1] == ("user", "pasted\nlines")


def test_ctrl_c_stops_the_answer_and_keeps_what_came(server: ScriptedServer) -> None:
    server.script = chatter
    with chatting(server) as terminal:
        terminal.type("talk\r")
        terminal.wait_for("la la la ")
        terminal.type(CTRL_C)
        terminal.wait_for(r"\(stopped\)\r\n> ")
        server.script = echo
        terminal.type("more\r")
        terminal.wait_for("told 3\r\n> ")
        terminal.interrupt("/exit leaves")
        terminal.type("/exit\r")
        assert terminal.status() == 0
    assert said(server.requests[1])[1][1].startswith("la la la ")


def test_a_failure_ends_the_answer_alone(server: ScriptedServer) -> None:
    server.script = lambda request: iter([InvalidArgumentError("The prompt is too long.")])
    with chatting(server) as terminal:
        terminal.type("long\r")
        terminal.wait_for("octavo chat: The prompt is too long.\r\n> ")
        server.script = echo
        terminal.type("short\r")
        terminal.wait_for("told 1\r\n> ")


def test_what_a_model_writes_does_not_steer_the_terminal(server: ScriptedServer) -> None:
    server.script = lambda request: iter(
        [accepted(), delta("a\x1b[2Jb\x9b\x07\tc"), finished("LENGTH"), usage()]
    )
    with chatting(server) as terminal:
        terminal.type("draw\r")
        terminal.wait_for(r"a\[2Jb\tc\r\n\(stopped at --max-tokens\)\r\n> ")


def test_a_model_without_a_template_is_refused_at_once(server: ScriptedServer) -> None:
    server.model.chat = False
    terminal = Terminal(server)
    try:
        terminal.wait_for("has no chat template; octavo complete")
        assert terminal.status() == 1
    finally:
        terminal.close()

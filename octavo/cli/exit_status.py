"""The exit statuses of the command line, and the one line that says what went wrong."""

from __future__ import annotations

from octavo.client.defaults import DEFAULT_ADDRESS
from octavo.errors import Code, OctavoError

OK = 0
FAILED = 1  # the server refused or failed
USAGE = 2  # a command, flag or value that is none
UNAVAILABLE = 3  # no server at the address, or none that serves now
TIMED_OUT = 4  # --timeout ran out
INTERRUPTED = 130  # Ctrl-C
PIPE_CLOSED = 141  # whoever read the output has ended

_BY_CODE = {
    Code.INVALID_ARGUMENT: USAGE,
    Code.UNAVAILABLE: UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: TIMED_OUT,
}


def status_of(error: OctavoError) -> int:
    """The exit status that a failure stands for."""
    return _BY_CODE.get(error.code, FAILED)


def explanation(error: OctavoError) -> str:
    """The failure in one line, and what a person can do about it."""
    text = " ".join(error.message.split()).rstrip(".")
    if error.reason == "UNREACHABLE":
        start = "octavo serve" if error.metadata.get("address") == DEFAULT_ADDRESS else "a server"
        return f"{text}. Start {start}, or name another with --address or OCTAVO_ADDRESS."
    if error.reason == "NO_HTTP_SERVER":
        return f"{text}. Start octavo serve, or name another with --http."
    if error.reason == "NO_METRICS":
        return f"{text}. --metrics-address or OCTAVO_METRICS_ADDRESS names another."
    if error.retry_delay_ms is not None:
        return f"{text}. Try again in {error.retry_delay_ms / 1_000:g} s."
    return f"{text}."

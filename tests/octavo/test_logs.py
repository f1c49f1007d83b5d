"""octavo.logs: one line an event on stderr, structured, from structlog and from logging alike."""

import json
import subprocess
import sys

PROGRAM = """
import logging, sys, structlog
from octavo.logs import configure_logs
configure_logs("example", format=sys.argv[1])
structlog.get_logger().info("started", port=1)
logging.getLogger("library").warning("careful")
try:
    raise ValueError("boom")
except ValueError:
    structlog.get_logger().exception("failed")
structlog.get_logger().debug("too quiet")
"""


def run(format: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, format], capture_output=True, text=True, check=True
    )
    assert result.stdout == ""
    return result.stderr.splitlines()


def test_json_is_one_object_a_line_with_the_service() -> None:
    first, second, third = [json.loads(line) for line in run("json")]
    assert (first["event"], first["port"], first["level"]) == ("started", 1, "info")
    assert (second["event"], second["level"]) == ("careful", "warning")
    assert "ValueError: boom" in third["exception"]
    assert {line["service"] for line in (first, second, third)} == {"example"}
    assert all("timestamp" in line for line in (first, second, third))


def test_console_is_for_people() -> None:
    lines = run("console")
    assert "started" in lines[0] and "port=1" in lines[0]
    assert "careful" in lines[1]
    assert "too quiet" not in "".join(lines)

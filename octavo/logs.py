"""Structured logs for every process, on stderr: one line an event, for people or as JSON.

structlog, the standard library's logging, warnings and exceptions that nobody caught go through one
renderer. A line about a request carries its `request_id`, bound where the request begins.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Literal

import structlog

from octavo.log_handler import DroppingHandler

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

log = structlog.get_logger()

_STDERR = 2


def configure_logs(
    service: str, *, format: LogFormat = "console", level: LogLevel = "info"
) -> None:
    """Sends all that is logged to stderr, each line with `service`."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Service(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        cache_logger_on_first_use=True,
    )
    handler = DroppingHandler(_STDERR)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    handler.addFilter(_is_ours_or_a_warning)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def num_dropped_lines() -> int:
    """Counts the lines of this process that could not be written."""
    handlers = logging.getLogger().handlers
    return sum(h.num_dropped for h in handlers if isinstance(h, DroppingHandler))


class _Service:
    """Adds the name of the process, in whatever thread a line is logged."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(
        self, _: object, __: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        event["service"] = self._name
        return event


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    """Keeps libraries quiet: only structlog's records carry `_logger`."""
    return hasattr(record, "_logger") or record.levelno >= logging.WARNING


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, Exception):
        log.error("crashed", exc_info=(kind, error, traceback))
    else:
        sys.__excepthook__(kind, error, traceback)


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread else ""
    log.error("thread crashed", thread=name, exc_info=arguments.exc_value)

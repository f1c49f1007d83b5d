"""The environment variables of all processes: an OCTAVO_* that none of them reads is a mistake.

Processes share an environment, so one process cannot tell by its own settings. A test keeps the
table equal to what the processes declare.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence

import structlog

from octavo.settings import ENVIRONMENT_PREFIX

log = structlog.get_logger()

# Without OCTAVO_, which all begin with.
KNOWN_NAMES = frozenset(
    (
        # the command line, the default model, the build, and what a process tells its children
        *("ADDRESS", "METRICS_ADDRESS", "CACHE_DIR", "COMMIT", "PARENT_PID", "RANK_CONFIG"),
        # all services
        *("CONFIG", "HOST", "METRICS_PORT", "ADMIN_ADDRESS", "READY_FILE", "DRAIN_LIMIT_S"),
        *("LOG_FORMAT", "LOG_LEVEL"),
        # the gateway
        *("HTTP_PORT", "GRPC_PORT", "WORKER", "TOKENIZER", "TOKENIZER_WAIT_S", "MAX_REQUESTS"),
        *("MAX_REQUEST_BYTES", "MAX_PROMPT_BYTES", "MAX_SESSION_REQUESTS", "CORS_ORIGIN", "DOCS"),
        *("MAX_CONNECTION_AGE_S", "REFLECTION"),
        # tokenizer and worker
        *("MODEL", "HF_MODEL_NAME", "HF_REVISION", "PORT", "THREADS"),
        # the tokenizer
        *("MAX_TEXT_BYTES", "MAX_BATCH", "MAX_DECODERS"),
        *("CHAT_TEMPLATE", "TEMPLATE_TIME_LIMIT_S", "TEMPLATE_MEMORY_BYTES"),
        # the worker
        *(
            "MODEL_NAME",
            "NUM_DEVICES",
            "DEVICE",
            "DTYPE",
            "KERNELS",
            "QUANTIZATION",
            "ACTIVATION_DTYPE",
            "KV_CACHE_DTYPE",
            "BLOCK_TOKENS",
            "KV_CACHE_MEMORY_BYTES",
        ),
        *("MAX_RUNNING", "MAX_STEP_TOKENS", "MAX_WAITING", "MAX_WAITING_PROMPT_TOKENS"),
        *("MAX_CONTEXT", "STEP_LIMIT_MS", "HEARTBEAT_LIMIT_MS", "START_LIMIT_S", "MAX_RESTARTS"),
        # octavo serve
        *("LOG_FOLDER", "VERBOSE"),
    )
)

# What Kubernetes tells every container of a service that is called octavo-something.
_OF_KUBERNETES = re.compile(
    r"\w+_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)=.*|\w+_PORT=(tcp|udp)://.*"
)


def unknown_variables(environment: Mapping[str, str]) -> Sequence[str]:
    """What no process reads, each with the nearest name that one does."""
    ours = {
        variable: variable.upper().removeprefix(ENVIRONMENT_PREFIX)
        for variable, value in sorted(environment.items())
        if variable.upper().startswith(ENVIRONMENT_PREFIX)
        and not _OF_KUBERNETES.fullmatch(f"{variable}={value}")
    }
    return [
        f"{variable}{_nearest(name)}" for variable, name in ours.items() if name not in KNOWN_NAMES
    ]


def warn_of_unknown_variables() -> None:
    """Logs what no process reads in one line."""
    if unknown := unknown_variables(os.environ):
        log.warning("unknown environment variables", variables=unknown)


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, sorted(KNOWN_NAMES), n=1)
    return f"; did you mean {ENVIRONMENT_PREFIX}{near[0]}?" if near else ""

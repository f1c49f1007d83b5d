"""The front of a worker group: `python -m services.worker --model FOLDER`.

Listens before anything loads, starts the ranks as processes of their own, and restarts them when
one is lost. Imports no torch. `--help` lists the flags.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from octavo.environment import warn_of_unknown_variables
from octavo.errors import OctavoError
from octavo.logs import configure_logs
from octavo.rpc.server import AddressInUseError
from octavo.settings import fail
from services.worker.config import PROGRAM, WorkerSettings
from services.worker.front.group import GroupFailedError
from services.worker.front.preflight import available_memory, check_folder, plan_kv_cache
from services.worker.front.process import serve
from services.worker.held_weights import NumericChoices


def main(argv: Sequence[str] | None = None) -> int:
    """0 after a drain; 2 where the user can put it right; 1 where the ranks keep failing."""
    settings = WorkerSettings.load(argv, prog=PROGRAM)
    configure_logs("worker", format=settings.log_format, level=settings.log_level)
    warn_of_unknown_variables()
    try:
        settings = settings.with_folder()
        asyncio.run(serve(settings, _checked_kv_cache_bytes(settings)))
    except (OctavoError, AddressInUseError) as error:
        fail(PROGRAM, str(error))
    except GroupFailedError as error:
        if error.permanent:
            fail(PROGRAM, str(error))
        print(f"{PROGRAM}: gave up after {error}", file=sys.stderr)
        return 1
    return 0


def _checked_kv_cache_bytes(settings: WorkerSettings) -> int:
    check_folder(settings.folder)
    return plan_kv_cache(
        settings.folder,
        NumericChoices(
            dtype=settings.dtype,
            kernels=settings.kernels,
            fp8_weights=settings.quantization is not None,
            fp8_kv_cache=settings.kv_cache_dtype == "fp8",
        ),
        wanted_bytes=settings.kv_cache_memory_bytes,
        available=available_memory(),
    )


if __name__ == "__main__":
    sys.exit(main())

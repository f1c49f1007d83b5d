"""`python -m services.worker.tools.prepare`: prints the folder of the default model.

Progress goes to stderr; the folder is the last line on stdout.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from octavo.status_line import StatusLine
from services.worker.tools.prepare.default_model import MODEL_NAME, prepared_default_model
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.progress import ignore_progress, show_on

_PROG = "prepare"


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares the model; the exit status, 2 where the user can put it right."""
    parser = argparse.ArgumentParser(
        prog=_PROG, description=f"Downloads and converts the default model, {MODEL_NAME}, once."
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--bf16", action="store_true", help="leave the matrices in bf16, to compare with"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument(
        "--relayed", action="store_true", help="say on stdout why it failed, for a parent to tell"
    )
    arguments = parser.parse_args(argv)
    # SIGTERM like Ctrl-C: unwind, so that pip ends and no half-written folder stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = StatusLine(sys.stderr)
    try:
        folder = prepared_default_model(
            ignore_progress if arguments.quiet else show_on(console),
            arguments.output,
            fp8=not arguments.bf16,
        )
    except PrepareError as error:
        console.close()
        if arguments.relayed:
            print(error)
        else:
            print(f"{_PROG}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.close()
        return 130
    console.close()
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

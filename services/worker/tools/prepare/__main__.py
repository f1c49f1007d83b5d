"""`python -m services.worker.tools.prepare`: prints the folder of the default model.

Progress goes to stderr; the folder is the last line on stdout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from octavo.folder_tool import print_folder
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
    return print_folder(
        _PROG,
        lambda line: prepared_default_model(
            ignore_progress if arguments.quiet else show_on(line),
            arguments.output,
            fp8=not arguments.bf16,
        ),
        refusal=PrepareError,
        relayed=arguments.relayed,
    )


if __name__ == "__main__":
    sys.exit(main())

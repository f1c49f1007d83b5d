"""`python -m octavo.hub ORG/NAME`: prints the folder of the model, downloaded where needed.

Progress goes to stderr; the folder is the last line on stdout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from octavo.errors import OctavoError
from octavo.folder_tool import print_folder
from octavo.hub.download import download

PROGRAM = "python -m octavo.hub"


def main(argv: Sequence[str] | None = None) -> int:
    """Downloads; the exit status, 2 where the user can put it right."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Downloads a model from the hub.")
    parser.add_argument("name", metavar="ORG/NAME")
    parser.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit")
    parser.add_argument(
        "--relayed", action="store_true", help="say on stdout why it failed, for a parent to tell"
    )
    arguments = parser.parse_args(argv)
    return print_folder(
        PROGRAM,
        lambda line: download(arguments.name, arguments.revision, line),
        refusal=OctavoError,
        problem_of=lambda error: error.message.rstrip("."),
        relayed=arguments.relayed,
    )


if __name__ == "__main__":
    sys.exit(main())

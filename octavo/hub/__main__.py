"""`python -m octavo.hub ORG/NAME`: prints the folder of the model, downloaded where needed.

Progress goes to stderr; the folder is the last line on stdout.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from octavo.errors import OctavoError
from octavo.hub.download import download
from octavo.status_line import StatusLine

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
    # SIGTERM like Ctrl-C: unwind, so that the library leaves what it has for the next time.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    line = StatusLine(sys.stderr)
    try:
        folder = download(arguments.name, arguments.revision, line)
    except OctavoError as error:
        line.close()
        problem = error.message.rstrip(".")
        if arguments.relayed:
            print(problem)
        else:
            print(f"{PROGRAM}: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        line.close()
        return 130
    line.close()
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.fuzzing --seconds 600`: see tests/fuzzing/__init__.py."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzzing.covered import Covered

CORPUS = Path(__file__).parent / "corpus.json"
_IN_MEMORY = Path("/dev/shm")  # where there is such a place, files need no disk


def main() -> int:
    """0 where nothing was found, else 1. The last line is JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--keep", action="store_true", help="write the corpus to corpus.json")
    parser.add_argument("--output", type=Path, help="a file for the result, with the findings")
    arguments = parser.parse_args()
    covered = Covered.start(
        *("services/worker/checkpoint/*", "services/worker/stored_tensors/*"),
        *("services/worker/front/preflight.py", "octavo/fingerprint.py"),
        "services/worker/tools/inspect/*",
    )
    # Imported here because what runs at import counts as covered.
    from tests.fuzzing.campaign import Campaign

    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        campaign = Campaign(Path(folder), covered, random.Random(arguments.seed))
        campaign.replay(json.loads(CORPUS.read_text(encoding="utf-8")))
        campaign.run(arguments.seconds)
    if arguments.keep:
        CORPUS.write_text(campaign.corpus_as_json(), encoding="utf-8")
    print(covered.report())
    summary = campaign.summary() | {"coverage_percent": covered.percent()}
    if arguments.output:
        result = summary | {"found": campaign.findings}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary))
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main())

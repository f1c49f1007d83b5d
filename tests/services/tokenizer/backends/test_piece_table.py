"""Tables of pieces against the libraries' own decoders."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.backends.piece_table import LeadingSpace, PieceTable, fallback_byte
from services.tokenizer.tokenizer_config import TokenizerConfig
from tests.services.tokenizer import vocabularies

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def built(folder: Path, tokenizer: Tokenizer) -> HuggingFaceBackend:
    return vocabularies.huggingface(vocabularies.save(tokenizer, folder))


@quick
@given(ids=st.lists(st.integers(0, 319), max_size=30), skip=st.booleans())
def test_byte_level_ids_decode_as_the_library_does_whatever_they_are(
    checkpoints: Path, ids: list[int], skip: bool
) -> None:
    backend = vocabularies.huggingface(checkpoints / "fmo-l0")
    library = Tokenizer.from_file(str(checkpoints / "fmo-l0" / "tokenizer.json"))
    assert backend.pieces is not None
    assert backend.decode(ids, skip_special_tokens=skip) == library.decode(
        ids, skip_special_tokens=skip
    )


def test_a_character_before_half_a_one_is_not_spoiled(llama2: HuggingFaceBackend) -> None:
    """The library shows five times U+FFFD here, and a stream could never give a byte out."""
    ids = [3 + byte for byte in "日".encode() + b"\xe6\x9c"]
    assert llama2.decode(ids, skip_special_tokens=True) == "日\ufffd"


def test_only_decoders_that_join_bytes_have_a_table(tmp_path: Path) -> None:
    assert built(tmp_path / "a", vocabularies.metaspace_tokenizer()).pieces is not None
    assert built(tmp_path / "b", vocabularies.wordpiece_tokenizer()).pieces is None
    other = vocabularies.llama2_tokenizer()
    other.decoder = decoders.Sequence(
        [decoders.Replace("▁", "_"), decoders.ByteFallback(), decoders.Fuse()]
    )
    assert built(tmp_path / "c", other).pieces is None, "the probes differ"


def test_leading_spaces(tmp_path: Path) -> None:
    def texts(space: LeadingSpace) -> list[str]:
        table = PieceTable(
            pieces=[b"", b"  a", b" b", b"\xc3"], special={0: b"<s>"}, leading_space=space
        )
        lists = ([1, 2], [0, 2, 2], [3])
        return [table.text(ids, skip_special_tokens=True) for ids in lists]

    assert texts(LeadingSpace.KEPT) == ["  a b", " b b", "\ufffd"]
    assert texts(LeadingSpace.ONE_DROPPED) == [" a b", "b b", "\ufffd"]
    assert texts(LeadingSpace.ALL_DROPPED) == ["a b", "b b", "\ufffd"]


def test_a_special_token_first_keeps_the_space_after_it() -> None:
    table = PieceTable(
        pieces=[b"", b" a"], special={0: b"<s>"}, leading_space=LeadingSpace.ONE_DROPPED
    )
    assert table.text([0, 1], skip_special_tokens=False) == "<s> a"
    assert table.text([0, 1], skip_special_tokens=True) == "a"
    assert table.token_bytes(0) == b"<s>"


def test_tokens_for_bytes() -> None:
    assert [fallback_byte(token) for token in ("<0x0A>", "<0xff>", "<0xZZ>", "<0x0A", "a")] == [
        10,
        255,
        None,
        None,
        None,
    ]


def test_tokens_that_the_configuration_calls_special_are(tmp_path: Path) -> None:
    tokenizer = vocabularies.llama2_tokenizer()
    tokenizer.add_tokens(["<|end|>", "<think>"])
    folder = vocabularies.save(tokenizer, tmp_path, eos_token="<|end|>")
    backend = HuggingFaceBackend(folder / "tokenizer.json", TokenizerConfig.read(folder))
    assert "<|end|>" in backend.special_ids
    assert "<think>" not in backend.special_ids
    written = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    (end,) = [token["id"] for token in written if token["content"] == "<|end|>"]
    assert end not in backend.encode(["a<|end|>"], add_special_tokens=False)[0].ids
    assert backend.encode_template("<|end|>")[-1] == end
    assert backend.eos_id == end

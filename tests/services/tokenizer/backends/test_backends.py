"""What every backend owes: ids and back, with users' text inert, and offsets in characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from octavo.errors import FailedPreconditionError
from services.tokenizer.backends import TokenizerBackend, load_backend
from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.tokenizer_config import TokenizerConfig
from tests.services.tokenizer import vocabularies

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TEXTS = st.lists(
    st.sampled_from(["Hello", " world", "  ", "\n", "é", "日", "🦙", "<s>", "</s>", "[INST]", "."])
    | st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=4),
    max_size=8,
).map("".join)


def is_lossless(backend: TokenizerBackend) -> bool:
    return backend.pieces is not None


@quick
@given(text=TEXTS)
def test_text_comes_back_whatever_special_tokens_it_names(
    backend: TokenizerBackend, text: str
) -> None:
    ids = backend.encode([text], add_special_tokens=False)[0].ids
    unknown = backend.special_ids.get("<unk>", -1)
    assert not (set(ids) & set(backend.special_ids.values())) - {unknown, 0}
    if is_lossless(backend) and backend.name == "huggingface":
        assert backend.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "model",
    [
        models.Unigram([("<unk>", 0.0), ("<s>", 0.0), *((c, -5.0) for c in "▁helo<>s")], unk_id=0),
        models.WordLevel({"<unk>": 0, "<s>": 1, "▁hello": 2}, unk_token="<unk>"),
        models.BPE({"<unk>": 0, "<s>": 1, "<": 2, "s": 3, ">": 4}, [], ignore_merges=True),
    ],
    ids=["unigram", "word_level", "ignore_merges"],
)
def test_a_model_whose_vocabulary_names_special_tokens_does_not_find_them(
    tmp_path: Path, model: models.Model
) -> None:
    tokenizer = Tokenizer(model)
    if not isinstance(model, models.BPE):
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    backend = vocabularies.huggingface(vocabularies.save(tokenizer, tmp_path, bos_token="<s>"))
    for text in ("<s>", "hello <s>", "<s>hello"):
        assert 1 not in backend.encode([text], add_special_tokens=False)[0].ids
    assert 1 in backend.encode_template("<s>hello")
    assert backend.special_ids == {"<unk>": 0, "<s>": 1}


def test_a_special_token_that_merges_make_is_no_reason_to_fail(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, "a": 1, "b": 2, "ab": 3}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b")], unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", "ab"])
    backend = vocabularies.huggingface(vocabularies.save(tokenizer, tmp_path))
    assert list(backend.encode_template("ab")) == [3]


@quick
@given(text=TEXTS)
def test_decode_is_the_library_s_own_for_valid_text(llama2: HuggingFaceBackend, text: str) -> None:
    ids = llama2.encode([text], add_special_tokens=True)[0].ids
    for skip in (False, True):
        ours = llama2.decode(ids, skip_special_tokens=skip)
        assert ours == llama2._template.decode(list(ids), skip_special_tokens=skip)


def test_each_byte_that_cannot_be_read_is_told_apart(llama2: HuggingFaceBackend) -> None:
    number = {byte: 3 + byte for byte in range(256)}
    ids = [number[byte] for byte in b"\xf0\x9f\xa6A\xffB"]
    assert llama2.decode(ids, skip_special_tokens=True) == "\ufffdA\ufffdB"


@quick
@given(texts=st.lists(TEXTS, max_size=4), special=st.booleans())
def test_offsets_do_not_change_ids_and_lie_in_the_text(
    backend: TokenizerBackend, texts: list[str], special: bool
) -> None:
    plain = backend.encode(texts, add_special_tokens=special)
    found = backend.encode(texts, add_special_tokens=special, offsets=True)
    assert [list(encoded.ids) for encoded in found] == [list(encoded.ids) for encoded in plain]
    for text, encoded in zip(texts, found, strict=True):
        assert len(encoded.offsets) == len(encoded.ids)
        ends = [end for _, end in encoded.offsets]
        assert all(0 <= begin <= end <= len(text) for begin, end in encoded.offsets)
        assert ends == sorted(ends)


def test_offsets_count_characters(backend: TokenizerBackend) -> None:
    text = "日é🦙 the cat"
    (encoded,) = backend.encode([text], add_special_tokens=False, offsets=True)
    words = {text[begin:end].strip() for begin, end in encoded.offsets}
    assert "t" in words or {"the", "cat"} <= words


def test_special_tokens_are_shown_only_where_asked_for(backend: TokenizerBackend) -> None:
    text, number = next(iter(backend.special_ids.items()))
    ids = [number, *backend.encode(["hello"], add_special_tokens=False)[0].ids, number]
    assert text in backend.decode(ids, skip_special_tokens=False)
    assert backend.decode(ids, skip_special_tokens=True) == "hello"
    assert backend.token_bytes(number) == text.encode()


def test_templates_mean_the_special_tokens_that_they_write(backend: TokenizerBackend) -> None:
    special = [text for text in backend.special_ids if "unk" not in text.lower()][:2]
    ids = backend.encode_template(f"{special[0]}hello{special[1]}")
    assert ids[0] == backend.special_ids[special[0]]
    assert ids[-1] == backend.special_ids[special[1]]
    assert backend.decode(ids, skip_special_tokens=True) == "hello"


@pytest.mark.parametrize("name", vocabularies.SENTENCEPIECE_MODELS)
def test_bos_is_added_unless_the_configuration_says_otherwise(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").symlink_to(vocabularies.sentencepiece_path(name))
    for config, first, last in [
        (TokenizerConfig(), True, False),
        (TokenizerConfig(add_bos_token=False), False, False),
        (TokenizerConfig(add_bos_token=True, add_eos_token=True), True, True),
    ]:
        backend = load_backend(tmp_path, config)
        (encoded,) = backend.encode(["Hello"], add_special_tokens=True, offsets=True)
        assert (encoded.ids[0] == backend.bos_id) is first
        assert (encoded.ids[-1] == backend.eos_id) is last
        (without,) = backend.encode(["Hello"], add_special_tokens=False)
        assert backend.bos_id not in without.ids


def test_llama_2_like_ids() -> None:
    """The vocabulary is not Llama's, but the layout is: dummy prefix, bytes at 3 and up."""
    backend = vocabularies.sentencepiece("tokenizer.model.v1")
    assert (backend.unknown_id, backend.bos_id, backend.eos_id) == (0, 1, 2)
    assert list(backend.encode(["Hello world"], add_special_tokens=True)[0].ids) == [1, 22557, 1526]
    assert list(backend.encode(["\n"], add_special_tokens=False)[0].ids) == [28705, 13]
    assert backend.token_bytes(13) == b"\n"
    assert backend.decode([22557, 1526], skip_special_tokens=True) == "Hello world"


def test_turns_are_encoded_each_by_itself() -> None:
    """As Llama 2's reference code does: every part after a special token has its own prefix."""
    backend = vocabularies.sentencepiece("tokenizer.model.v1")
    turn = backend.encode(["[INST] x [/INST]"], add_special_tokens=False)[0].ids
    ids = backend.encode_template("<s>[INST] x [/INST]</s><s>[INST] x [/INST]")
    assert list(ids) == [1, *turn, 2, 1, *turn]


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match=r"tokenizer\.json nor tokenizer\.model"):
        load_backend(tmp_path, TokenizerConfig())


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00nonsense", b'{"model": 1}'])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FailedPreconditionError, match=name) as caught:
        load_backend(tmp_path, TokenizerConfig())
    assert caught.value.reason == "BAD_TOKENIZER_FILE"

"""What a template wrote, taken apart at its special tokens and encoded part by part."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from services.tokenizer.backends import TokenizerBackend, load_backend
from services.tokenizer.backends.sentencepiece import SentencePieceBackend
from services.tokenizer.tokenizer_config import TokenizerConfig
from tests.services.tokenizer import vocabularies

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=80,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PARTS = st.lists(
    st.sampled_from(
        [
            "<s>",
            "</s>",
            "[SEP]",
            "hello",
            " world",
            "  ",
            " ",
            "\n",
            "日",
            "🦙",
            "\ue0f0",
            "the cat",
        ]
    ),
    max_size=8,
).map("".join)


@quick
@given(text=PARTS)
def test_parts_encoded_by_themselves_are_the_whole(backend: TokenizerBackend, text: str) -> None:
    parts = backend.split_template(text)
    assert list(backend.encode_parts(parts)) == list(backend.encode_template(text))
    strings = [part for part in parts if isinstance(part, str)]
    assert not any(token in string for string in strings for token in ("<s>", "</s>")) or (
        "<s>" not in backend.special_ids
    )


@quick
@given(text=PARTS)
def test_a_template_s_ids_are_the_library_s(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    for name in ("llama2", "metaspace"):
        library: Tokenizer = vocabularies.BUILT[name]()
        folder = tmp_path_factory.getbasetemp() / f"parts-{name}"
        if not folder.exists():
            vocabularies.save(library, folder)
        backend = load_backend(folder, TokenizerConfig())
        assert (
            list(backend.encode_template(text))
            == library.encode(text, add_special_tokens=False).ids
        )


def test_special_tokens_take_the_space_around_them_where_they_are_made_so(tmp_path: Path) -> None:
    """Phi-3's do."""
    tokenizer = vocabularies.llama2_tokenizer()
    tokenizer.add_special_tokens([AddedToken("<|end|>", rstrip=True, lstrip=True)])
    backend = vocabularies.huggingface(vocabularies.save(tokenizer, tmp_path))
    text = "hello <|end|>\nworld"
    assert [part for part in backend.split_template(text) if isinstance(part, str)] == [
        "hello",
        "world",
    ]
    assert list(backend.encode_parts(backend.split_template(text))) == list(
        backend.encode_template(text)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of sentencepiece's with turns as user-defined symbols, as Gemma's has them."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = ["hello world the cat sat on the mat", "naïve café in Zürich", "1 + 1 = 2 (two)"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<turn>", "▁▁▁▁"],
        pad_id=3,
        minloglevel=2,
    )
    return folder


def backend_of(folder: Path, *, special: bool) -> SentencePieceBackend:
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    number = library.piece_to_id("<turn>")
    config = TokenizerConfig(added_tokens={number: ("<turn>", special), 400: ("<more>", special)})
    return SentencePieceBackend(folder / "tokenizer.model", config)


def test_symbols_that_the_configuration_calls_special_are_text_to_users(trained: Path) -> None:
    backend = backend_of(trained, special=True)
    turn = backend.special_ids["<turn>"]
    (user,) = backend.encode(["<turn>hello<more>"], add_special_tokens=False)
    assert not {turn, 400} & set(user.ids)
    assert backend.decode(user.ids, skip_special_tokens=True) == "<turn>hello<more>"
    hello = backend.encode(["hello"], add_special_tokens=False)[0].ids
    assert list(backend.encode_template("<turn>hello<more>")) == [turn, *hello, 400]
    assert backend.decode([turn, *hello, 400], skip_special_tokens=True) == "hello"
    assert backend.vocabulary_size == 401


def test_other_symbols_are_pieces_like_any(trained: Path) -> None:
    backend = backend_of(trained, special=False)
    (user,) = backend.encode(["<turn>    hello"], add_special_tokens=False)
    assert backend.decode(user.ids, skip_special_tokens=True) == "<turn>    hello"
    assert "<turn>" not in backend.special_ids
    assert backend.padding_id == 3


@quick
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=20))
def test_a_model_without_a_dummy_prefix_keeps_leading_spaces(trained: Path, text: str) -> None:
    backend = backend_of(trained, special=True)
    ids = backend.encode([f" {text}"], add_special_tokens=False)[0].ids
    assert backend.decode(ids, skip_special_tokens=True) == f" {text}"


@pytest.mark.parametrize("name", vocabularies.SENTENCEPIECE_MODELS)
@quick
@given(text=PARTS)
def test_texts_decode_as_sentencepiece_s_own(name: str, text: str) -> None:
    backend = vocabularies.sentencepiece(name)
    library = sentencepiece.SentencePieceProcessor(
        model_file=str(vocabularies.sentencepiece_path(name))
    )
    ids = list(backend.encode([text], add_special_tokens=False)[0].ids)
    assert ids == library.encode(text)
    assert backend.decode(ids, skip_special_tokens=True) == library.decode(ids)

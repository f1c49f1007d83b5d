"""What tokenizer_config.json and its neighbours say, in the forms that checkpoints write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import FailedPreconditionError
from services.tokenizer.tokenizer_config import TokenizerConfig


def read(folder: Path, **values: Any) -> TokenizerConfig:
    (folder / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    return TokenizerConfig.read(folder)


def test_tokens_are_texts_or_objects(tmp_path: Path) -> None:
    config = read(tmp_path, bos_token="<s>", eos_token={"content": "</s>"}, pad_token=None)
    assert config.tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_configuration_goes_before_the_map(tmp_path: Path) -> None:
    map_file = tmp_path / "special_tokens_map.json"
    map_file.write_text('{"bos_token": "a", "eos_token": "b"}', encoding="utf-8")
    assert read(tmp_path, bos_token="c").tokens == {"bos_token": "c", "eos_token": "b"}


def test_added_tokens_have_ids(tmp_path: Path) -> None:
    added = {"7": {"content": "<x>", "special": True}, "8": {"content": "<y>"}}
    config = read(tmp_path, added_tokens_decoder=added)
    assert config.added_tokens == {7: ("<x>", True), 8: ("<y>", False)}


def test_the_template_is_one_or_the_default_of_many(tmp_path: Path) -> None:
    assert read(tmp_path).chat_template is None
    assert read(tmp_path, chat_template="one").chat_template == "one"
    many = [{"name": "rag", "template": "x"}, {"name": "default", "template": "two"}]
    assert read(tmp_path, chat_template=many).chat_template == "two"
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert read(tmp_path, chat_template="one").chat_template == "file"


def test_no_files_say_nothing(tmp_path: Path) -> None:
    assert TokenizerConfig.read(tmp_path) == TokenizerConfig()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"bos_token": {"text": "x"}}',
        '{"added_tokens_decoder": {"x": {"content": "y"}}}',
        '{"added_tokens_decoder": {"1": 2}}',
        '{"added_tokens_decoder": [1]}',
        '{"chat_template": [1]}',
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(FailedPreconditionError, match="tokenizer_config"):
        TokenizerConfig.read(tmp_path)


def test_a_template_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(FailedPreconditionError, match=r"chat_template\.jinja"):
        TokenizerConfig.read(tmp_path)

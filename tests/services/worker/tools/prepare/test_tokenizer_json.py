from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.tokenizer_json import (
    special_tokens_map,
    tokenizer_config,
    tokenizer_json,
)

METADATA: dict[str, Any] = {
    "llama.context_length": 64,
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": ["<|eot|>", "<|s|>", "<|e|>", "a", "b", "1", "Ġ", "ab", "Ġab", "11"],
    "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1, 1, 1, 1, 1],
    "tokenizer.ggml.merges": ["a b", "Ġ ab", "1 1"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
}


def _tokenizer() -> Tokenizer:
    return Tokenizer.from_str(json.dumps(tokenizer_json(METADATA)))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ab ab", [7, 8]),
        ("11", [5, 5]),  # every digit alone, although a merge would join them
        ("<|s|>ab<|e|>", [1, 7, 2]),  # nothing before, nothing after
        ("azb", [7]),  # a byte that is no token is dropped, as in the original
        ("", []),
    ],
)
def test_ids(text: str, ids: list[int]) -> None:
    assert _tokenizer().encode(text).ids == ids


def test_special_tokens_can_be_text() -> None:
    tokenizer = _tokenizer()
    tokenizer.encode_special_tokens = True
    assert 1 not in tokenizer.encode("<|s|>").ids


def test_the_configuration_names_the_special_tokens_and_holds_the_template() -> None:
    config = tokenizer_config(METADATA)
    assert config["chat_template"] == "{{ messages }}"
    assert config["add_bos_token"] is False
    assert config["added_tokens_decoder"].keys() == {"0", "1", "2"}
    assert special_tokens_map(METADATA)["eos_token"] == config["eos_token"] == "<|e|>"


def test_another_pre_tokenizer_is_refused() -> None:
    with pytest.raises(PrepareError, match="'llama-bpe'"):
        tokenizer_json({**METADATA, "tokenizer.ggml.pre": "llama-bpe"})

"""The tokenizer's files, from what GGUF holds: vocabulary, merges and the chat template.

GGUF's pre-tokenizer "smollm" is: every digit alone, then bytes, split by GPT-2's expression; no
normaliser, and nothing put before or after a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.worker.tools.prepare.errors import PrepareError

_CONTROL = 3  # GGUF's type of a token that stands for no text
_PRE_TOKENIZER = "smollm"


def tokenizer_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of tokenizer.json.

    21 bytes that no valid text needs, or hardly any, are no tokens of this model; `unk_token` stays
    null, as in the original: such a byte is dropped, and not turned into the end of a text.
    """
    if metadata["tokenizer.ggml.pre"] != _PRE_TOKENIZER:
        raise PrepareError(
            f"GGUF's tokenizer.ggml.pre is {metadata['tokenizer.ggml.pre']!r}; "
            f"known: {_PRE_TOKENIZER!r}"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(id_, tokens[id_]) for id_ in special_ids(metadata)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [digits, {**byte_level, "use_regex": True}],
        },
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]],
        },
    }


def special_ids(metadata: Mapping[str, Any]) -> list[int]:
    """The ids of the tokens that stand for no text."""
    kinds: list[int] = metadata["tokenizer.ggml.token_type"]
    return [id_ for id_, kind in enumerate(kinds) if kind == _CONTROL]


def tokenizer_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    return {
        "add_bos_token": False,  # the template starts with <|im_start|>; one more changes the text
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(id_): {k: v for k, v in _added_token(id_, tokens[id_]).items() if k != "id"}
            for id_ in special_ids(metadata)
        },
        **special_tokens_map(metadata),
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata["llama.context_length"],
        # The generic class: GPT2Tokenizer would leave out the step that splits digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def special_tokens_map(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of special_tokens_map.json."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    bos, eos, pad, unknown = (
        tokens[metadata[f"tokenizer.ggml.{name}_token_id"]]
        for name in ("bos", "eos", "padding", "unknown")
    )
    return {
        "additional_special_tokens": [bos, eos],
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": pad,
        "unk_token": unknown,
    }


def _added_token(id_: int, content: str) -> dict[str, Any]:
    return {
        "id": id_,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }

"""What tokenizer_config.json and its neighbours say: special tokens and the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.errors import FailedPreconditionError

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """The parts of the configuration that Octavo uses.

    `tokens` maps bos_token, eos_token, unk_token and pad_token to their texts, where named.
    `added_tokens` maps the ids of tokens that were added to the vocabulary to (text, is special).
    """

    tokens: Mapping[str, str] = field(default_factory=dict)
    added_tokens: Mapping[int, tuple[str, bool]] = field(default_factory=dict)
    chat_template: str | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None

    @property
    def special_added_tokens(self) -> frozenset[str]:
        """The texts of added tokens that are special."""
        return frozenset(text for text, special in self.added_tokens.values() if special)

    @classmethod
    def read(cls, folder: Path) -> TokenizerConfig:
        """Reads the files in `folder`; a file that is missing says nothing."""
        path = folder / "tokenizer_config.json"
        values = {**_read_json(folder / "special_tokens_map.json"), **_read_json(path)}
        try:
            return cls(
                tokens={name: _text(values[name]) for name in _TOKEN_NAMES if values.get(name)},
                added_tokens=_added_tokens(values.get("added_tokens_decoder") or {}),
                chat_template=_chat_template(folder, values.get("chat_template")),
                add_bos_token=values.get("add_bos_token"),
                add_eos_token=values.get("add_eos_token"),
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _bad_file(path, f"not in the form that is expected: {error!r}") from error


def _added_tokens(values: Any) -> dict[int, tuple[str, bool]]:
    return {
        int(number): (_text(token), bool(token.get("special", False)))
        for number, token in values.items()
    }


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad_file(path, str(error)) from error
    if not isinstance(values, dict):
        raise _bad_file(path, "not a JSON object")
    return values


def _text(token: Any) -> str:
    """A token is written as its text or as an object with `content`."""
    return str(token["content"] if isinstance(token, dict) else token)


def _chat_template(folder: Path, configured: Any) -> str | None:
    """chat_template.jinja, else the configuration's: one template, or a list of named ones."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise _bad_file(path, str(error)) from error
    if isinstance(configured, list):
        named = {entry.get("name"): entry.get("template") for entry in configured}
        configured = named.get("default", next(iter(named.values()), None))
    return configured if isinstance(configured, str) else None


def _bad_file(path: Path, cause: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"{path}: {cause}", reason="BAD_TOKENIZER_FILE")

"""Tokenizer backends: one interface, one file each, one chooser by what the folder holds."""

from __future__ import annotations

from pathlib import Path

from octavo.errors import FailedPreconditionError
from services.tokenizer.backends.backend import Encoded, TokenizerBackend
from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.backends.piece_table import PieceTable
from services.tokenizer.backends.sentencepiece import SentencePieceBackend
from services.tokenizer.tokenizer_config import TokenizerConfig

__all__ = ["Encoded", "PieceTable", "TokenizerBackend", "load_backend"]


def load_backend(folder: Path, config: TokenizerConfig) -> TokenizerBackend:
    """The backend for the files in `folder`: tokenizer.json goes before tokenizer.model."""
    if (folder / "tokenizer.json").is_file():
        return HuggingFaceBackend(folder / "tokenizer.json", config)
    if (folder / "tokenizer.model").is_file():
        return SentencePieceBackend(folder / "tokenizer.model", config)
    raise FailedPreconditionError(
        f"{folder} holds neither tokenizer.json nor tokenizer.model.", reason="NO_TOKENIZER_FILE"
    )

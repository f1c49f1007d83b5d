"""Which chat template a model is served with."""

from __future__ import annotations

from pathlib import Path

import structlog

from octavo.errors import FailedPreconditionError
from services.tokenizer import llama2
from services.tokenizer.backends import TokenizerBackend

log = structlog.get_logger()

AUTO, LLAMA_2 = "auto", "llama-2"


def choose_template(
    setting: str, own: str | None, folder: Path, backend: TokenizerBackend
) -> str | None:
    """By --chat-template: a file's, Llama 2's, or with auto the folder's `own`; a chat model of
    Llama 2 without one gets Llama 2's. None: no conversation can be rendered.

    Raises FailedPreconditionError for a file that cannot be read.
    """
    if setting == LLAMA_2:
        return llama2.CHAT_TEMPLATE
    if setting != AUTO:
        return _read(Path(setting))
    if own is None and llama2.is_chat_model(folder, backend):
        log.info("the folder has no chat template", uses=LLAMA_2)
        return llama2.CHAT_TEMPLATE
    return own


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FailedPreconditionError(
            f"--chat-template is {path}; it must be {AUTO}, {LLAMA_2} or a file of text.",
            reason="BAD_TOKENIZER_FILE",
        ) from error

"""One output that is being decoded: ids in, new text out, until a stop text or the end.

The deltas joined are the text of prompt tail and ids without what it begins with in common with the
text of the prompt tail: all of that, but for half a character at the tail's end that the ids make a
whole one. The whole character is then new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.errors import invalid_field
from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.stop_texts import StopTexts
from services.tokenizer.stream_text import stream_text

MAX_PROMPT_TAIL = 8
MAX_STOP_TEXTS = 16
MAX_STOP_TEXT_BYTES = 1_024


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What a decoder is opened with; see OpenDecoder in tokenizer.proto."""

    prompt_tail: Sequence[int] = ()
    ids_so_far: Sequence[int] = ()
    sent_bytes: int = 0
    stop_texts: Sequence[str] = ()
    include_stop: bool = False
    token_bytes: bool = False
    min_ids: int = 0
    request_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """A stop text matched; ids after `token_index` of the same call are not part of the output."""

    text: str
    token_index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What is new."""

    text: str
    token_bytes: Sequence[bytes] = ()
    stop: Stop | None = None


class StreamDecoder:
    """One output. After a stop or the last ids it is done."""

    def __init__(self, backend: TokenizerBackend, opening: Opening) -> None:
        _check(opening, backend.vocabulary_size)
        self.request_id = opening.request_id
        self._backend = backend
        self._wants_bytes = opening.token_bytes
        self._text = stream_text(backend, opening.prompt_tail)
        self._stops = StopTexts(opening.stop_texts, include_stop=opening.include_stop)
        self._num_ids = 0
        self._min_ids = opening.min_ids
        resumed = self._feed(opening.ids_so_far)
        self._unsent = _unsent(resumed.text, opening.sent_bytes)
        self._stopped = resumed.stop

    def add(self, ids: Sequence[int], *, last: bool) -> Decoded:
        """Decodes more ids; with `last`, what was held back comes too."""
        check_ids(ids, self._backend.vocabulary_size, "entries.token_ids")
        unsent, self._unsent = self._unsent, ""
        if self._stopped is not None:  # among the ids so far of a decoder that was opened again
            return Decoded(text=unsent, stop=Stop(text=self._stopped.text, token_index=0))
        fed = self._feed(ids)
        text = unsent + fed.text
        stop = fed.stop
        if last and stop is None:
            tail = self._stops.add(self._text.flush(), obeyed=self._num_ids > self._min_ids)
            text += tail.text
            if tail.stop is None:
                text += self._stops.flush()
            else:
                stop = Stop(text=tail.stop, token_index=max(len(ids) - 1, 0))
        token_bytes = list(map(self._backend.token_bytes, ids)) if self._wants_bytes else ()
        return Decoded(text=text, token_bytes=token_bytes, stop=stop)

    def _feed(self, ids: Sequence[int]) -> Decoded:
        texts: list[str] = []
        for index, token_id in enumerate(ids):
            self._num_ids += 1
            text = self._text.add(token_id)
            scanned = self._stops.add(text, obeyed=self._num_ids > self._min_ids)
            texts.append(scanned.text)
            if scanned.stop is not None:
                stop = Stop(text=scanned.stop, token_index=index)
                return Decoded(text="".join(texts), stop=stop)
        return Decoded(text="".join(texts))


def check_ids(ids: Sequence[int], vocabulary_size: int, field: str) -> None:
    """Raises InvalidArgumentError for an id that is not in the vocabulary."""
    if ids and (largest := max(ids)) >= vocabulary_size:
        raise invalid_field(field, largest, f"below the vocabulary's size, {vocabulary_size}")


def _check(opening: Opening, vocabulary_size: int) -> None:
    if len(opening.prompt_tail) > MAX_PROMPT_TAIL:
        count = len(opening.prompt_tail)
        raise invalid_field("opens.prompt_tail_ids", count, f"at most {MAX_PROMPT_TAIL} ids")
    if len(opening.stop_texts) > MAX_STOP_TEXTS:
        count = len(opening.stop_texts)
        raise invalid_field("opens.stop_texts", count, f"at most {MAX_STOP_TEXTS} texts")
    for stop in opening.stop_texts:
        if not 1 <= len(stop.encode()) <= MAX_STOP_TEXT_BYTES:
            raise invalid_field("opens.stop_texts", stop, f"1 to {MAX_STOP_TEXT_BYTES} bytes long")
    check_ids(opening.prompt_tail, vocabulary_size, "opens.prompt_tail_ids")
    check_ids(opening.ids_so_far, vocabulary_size, "opens.token_ids_so_far")


def _unsent(text: str, sent_bytes: int) -> str:
    """What of `text` was not sent before; sent text always ends between two characters."""
    data = text.encode()
    if sent_bytes > len(data):
        raise invalid_field(
            "opens.sent_bytes",
            sent_bytes,
            f"at most {len(data)}, the bytes that the ids so far give",
        )
    try:
        return data[sent_bytes:].decode()
    except UnicodeDecodeError:
        raise invalid_field("opens.sent_bytes", sent_bytes, "between two characters") from None

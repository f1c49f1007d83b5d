"""TokenizerService: the handlers."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from octavo.errors import FailedPreconditionError, InWords, invalid_field
from octavo.fingerprint import tokenizer_fingerprint
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc
from services.tokenizer.backends import load_backend
from services.tokenizer.chat_renderer import ChatRenderer
from services.tokenizer.config import TokenizerSettings
from services.tokenizer.convert import arguments_from_pb, messages_from_pb, tools_from_pb
from services.tokenizer.decode_session import DecodeSession
from services.tokenizer.frame_stream import FrameStream
from services.tokenizer.metrics import TokenizerMetrics
from services.tokenizer.open_work import OpenWork
from services.tokenizer.stream_decoder import check_ids
from services.tokenizer.template_choice import choose_template
from services.tokenizer.template_runner import TemplateRunner
from services.tokenizer.tokenizer_config import TokenizerConfig

T = TypeVar("T")

TOKENIZER_SERVICE = "octavo.v1.TokenizerService"
# A smaller frame (a step of a thousand requests) is decoded at once, in a few milliseconds at most:
# handing it to a thread costs more.
_SMALL_FRAME_BYTES = 8 * 1024


class TokenizerService(tokenizer_pb2_grpc.TokenizerServiceServicer):
    """The tokenizer of one folder. What takes time runs in threads, templates in a process."""

    def __init__(self, settings: TokenizerSettings, metrics: TokenizerMetrics) -> None:
        config = TokenizerConfig.read(settings.folder)
        self._settings = settings
        self._metrics = metrics
        self.is_draining = False
        self._num_decoders = 0
        self._open = OpenWork()
        self._backend = load_backend(settings.folder, config)
        template = choose_template(
            settings.chat_template, config.chat_template, settings.folder, self._backend
        )
        config = replace(config, chat_template=template)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="tokenizer")
        self._runner = _runner(config, settings)
        self._renderer: ChatRenderer | None = None
        if self._runner is not None:
            self._renderer = ChatRenderer(self._backend, config, self._runner, self._in_thread)
        self._description = pb.GetTokenizerResponse(
            fingerprint=tokenizer_fingerprint(settings.folder),
            vocabulary_size=self._backend.vocabulary_size,
            bos_token_id=self._backend.bos_id,
            eos_token_id=self._backend.eos_id,
            unknown_token_id=self._backend.unknown_id,
            padding_token_id=self._backend.padding_id,
            special_token_ids=sorted(self._backend.special_ids.values()),
            chat_template_hash=hashlib.sha256(template.encode()).hexdigest() if template else "",
            backend=self._backend.name,
            max_text_bytes=settings.max_text_bytes,
            instance_id=secrets.token_hex(16),
        )

    async def start(self) -> None:
        """Starts the template's helper."""
        if self._runner is not None:
            await self._runner.start()

    @property
    def num_open(self) -> int:
        """Counts the calls and decoders that are open."""
        return self._open.num_open

    async def drain(self, limit_s: float) -> None:
        """Returns once no call and no decoder is open, or after `limit_s`."""
        self.is_draining = True
        await self._open.finished(limit_s)

    async def close(self) -> None:
        """Ends the helper and the threads."""
        if self._runner is not None:
            await self._runner.close()
        self._threads.shutdown(cancel_futures=True)

    async def GetTokenizer(
        self, request: pb.GetTokenizerRequest, context: Any
    ) -> pb.GetTokenizerResponse:
        """Describes the tokenizer."""
        return self._description

    async def RenderChat(
        self, request: pb.RenderChatRequest, context: Any
    ) -> pb.RenderChatResponse:
        """Renders a conversation and encodes it."""
        if self._renderer is None:
            raise FailedPreconditionError(
                "The checkpoint has no chat template.", reason="NO_CHAT_TEMPLATE"
            )
        with self._open.call():
            if request.ByteSize() > self._settings.max_text_bytes:
                self._refuse_size("chat", request.ByteSize())
            rendered = await self._renderer.render(
                messages_from_pb(request),
                tools_from_pb(request),
                arguments_from_pb(request),
                add_generation_prompt=request.add_generation_prompt
                or not request.HasField("add_generation_prompt"),
            )
            self._metrics.encoded_ids.inc(len(rendered.ids))
            return pb.RenderChatResponse(token_ids=rendered.ids, text=rendered.text)

    async def Encode(self, request: pb.EncodeRequest, context: Any) -> pb.EncodeResponse:
        """Encodes a batch."""
        with self._open.call():
            self._check_batch("texts", request.texts)
            for text in request.texts:
                # Four bytes are the most that a character has: most texts need no counting.
                limit = self._settings.max_text_bytes
                if 4 * len(text) > limit and (size := len(text.encode())) > limit:
                    self._refuse_size("texts", size)
            answer = await self._in_thread(self._encode, request)
            self._metrics.encoded_ids.inc(sum(len(e.token_ids) for e in answer.encodings))
            return answer

    async def Decode(self, request: pb.DecodeRequest, context: Any) -> pb.DecodeResponse:
        """Decodes a batch."""
        with self._open.call():
            self._check_batch("sequences", request.sequences)
            return await self._in_thread(self._decode, request)

    async def StreamDecode(  # type: ignore[override]  # the stub also allows generators
        self, request_iterator: AsyncIterator[pb.StreamDecodeRequest], context: Any
    ) -> None:
        """Decodes growing outputs."""
        session = DecodeSession(self._backend, max_decoders=self._settings.max_decoders)
        num_counted = 0

        async def answer(frame: pb.StreamDecodeRequest) -> pb.StreamDecodeResponse:
            nonlocal num_counted
            began_at = time.monotonic()
            if frame.ByteSize() <= _SMALL_FRAME_BYTES:
                answered = session.answer(frame)
            else:
                answered = await self._in_thread(session.answer, frame)
            self._metrics.decoded(frame, answered, time.monotonic() - began_at)
            self._count_decoders(session.num_open - num_counted)
            num_counted = session.num_open
            return answered

        try:
            await FrameStream().carry(request_iterator, answer, context.write)
        finally:
            self._count_decoders(-num_counted)

    def _count_decoders(self, change: int) -> None:
        self._num_decoders += change
        self._open.change(change)
        self._metrics.decoders_open.set(self._num_decoders)

    def _encode(self, request: pb.EncodeRequest) -> pb.EncodeResponse:
        add_special = request.add_special_tokens or not request.HasField("add_special_tokens")
        found = self._backend.encode(
            request.texts, add_special_tokens=add_special, offsets=request.offsets
        )
        return pb.EncodeResponse(
            encodings=[
                pb.Encoding(
                    token_ids=encoded.ids,
                    begins=[begin for begin, _ in encoded.offsets],
                    ends=[end for _, end in encoded.offsets],
                )
                for encoded in found
            ]
        )

    def _decode(self, request: pb.DecodeRequest) -> pb.DecodeResponse:
        skip = request.skip_special_tokens or not request.HasField("skip_special_tokens")
        answer = pb.DecodeResponse()
        for sequence in request.sequences:
            check_ids(sequence.ids, self._backend.vocabulary_size, "sequences.ids")
            text = self._backend.decode(sequence.ids, skip_special_tokens=skip)
            decoded = answer.texts.add(text=text)
            if request.token_bytes:
                decoded.token_bytes.extend(map(self._backend.token_bytes, sequence.ids))
        return answer

    def _check_batch(self, field: str, batch: Sequence[Any]) -> None:
        if len(batch) > self._settings.max_batch:
            raise invalid_field(
                field, InWords(f"{len(batch)} long"), f"at most {self._settings.max_batch}"
            )

    def _refuse_size(self, field: str, size: int) -> None:
        limit = self._settings.max_text_bytes
        raise invalid_field(field, InWords(f"{size} bytes long"), f"at most {limit} bytes long")

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _runner(config: TokenizerConfig, settings: TokenizerSettings) -> TemplateRunner | None:
    if config.chat_template is None:
        return None
    return TemplateRunner(
        config.chat_template,
        time_limit_s=settings.template_time_limit_s,
        memory_bytes=settings.template_memory_bytes,
        max_bytes=settings.max_text_bytes,
    )

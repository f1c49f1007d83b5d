"""A tokenizer service whose tokens are bytes: id 0..255 is that byte, 256 ends a sequence."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from octavo.rpc.server import RpcServer
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc

EOS_ID = 256
VOCABULARY_SIZE = 300


class _Decoder:
    """Bytes to text; holds back half a character and what may be the start of a stop text. Stop
    texts are looked for behind the first ids that must come.
    """

    def __init__(self, opened: pb.OpenDecoder) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop_texts = list(opened.stop_texts)
        self._include_stop = opened.include_stop
        self._token_bytes = opened.token_bytes
        text = self._utf8.decode(bytes(id_ for id_ in opened.token_ids_so_far if id_ < EOS_ID))
        self._held = text.encode()[opened.sent_bytes :].decode()
        self._num_ids = len(opened.token_ids_so_far)
        self._min_ids = opened.min_token_count

    def decode(self, entry: pb.DecodeEntry) -> pb.DecodedEntry:
        answer = pb.DecodedEntry(key=entry.key)
        for index, id_ in enumerate(entry.token_ids):
            piece = bytes([id_]) if id_ < EOS_ID else b""
            if self._token_bytes:
                answer.token_bytes.append(piece)
            self._held += self._utf8.decode(piece)
            self._num_ids += 1
            if self._num_ids <= self._min_ids:
                answer.text += self._held
                self._held = ""
            elif self._match(answer, index):
                return answer
        if entry.last:
            self._held += self._utf8.decode(b"", final=True)
        keep = 0 if entry.last else self._num_held_back()
        answer.text += self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return answer

    def _match(self, answer: pb.DecodedEntry, index: int) -> bool:
        for stop in self._stop_texts:
            at = self._held.find(stop)
            if at >= 0:
                answer.text += self._held[: at + (len(stop) if self._include_stop else 0)]
                answer.stop.text = stop
                answer.stop.token_index = index
                return True
        return False

    def _num_held_back(self) -> int:
        lengths = [
            n
            for stop in self._stop_texts
            for n in range(len(stop))
            if self._held.endswith(stop[:n])
        ]
        return max(lengths, default=0)


class FakeTokenizer(tokenizer_pb2_grpc.TokenizerServiceServicer):
    """Counts what it is asked for. `encoding_allowed` holds back Encode while it is clear, and
    `decoding_allowed` Decode and StreamDecode.
    """

    def __init__(self, *, fingerprint: str = "bytes") -> None:
        self.fingerprint = fingerprint
        self.unknown_texts: set[str] = set()  # these, with or without a space, make no token
        self.calls: list[str] = []
        self.frames: list[pb.StreamDecodeRequest] = []
        self.encoding_allowed = asyncio.Event()
        self.encoding_allowed.set()
        self.decoding_allowed = asyncio.Event()
        self.decoding_allowed.set()
        self._server: RpcServer | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens and serves; again on the same port after `kill`."""
        self._server = RpcServer(
            address=self.address, services={"octavo.v1.TokenizerService": self._register}
        )
        self.port = await self._server.start()
        await self._server.set_serving(True)

    async def kill(self) -> None:
        """Drops every connection at once."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)

    async def set_serving(self, serving: bool) -> None:
        assert self._server is not None
        await self._server.set_serving(serving)

    def _register(self, server: Any) -> None:
        tokenizer_pb2_grpc.add_TokenizerServiceServicer_to_server(self, server)

    async def GetTokenizer(
        self, request: pb.GetTokenizerRequest, context: Any
    ) -> pb.GetTokenizerResponse:
        return pb.GetTokenizerResponse(
            fingerprint=self.fingerprint,
            vocabulary_size=VOCABULARY_SIZE,
            eos_token_id=EOS_ID,
            chat_template_hash="fake",
            max_text_bytes=2**20,
        )

    async def RenderChat(
        self, request: pb.RenderChatRequest, context: Any
    ) -> pb.RenderChatResponse:
        self.calls.append("RenderChat")
        text = "".join(f"<{m.role}>{m.content}" for m in request.messages) + "<assistant>"
        return pb.RenderChatResponse(token_ids=text.encode(), text=text)

    async def Encode(self, request: pb.EncodeRequest, context: Any) -> pb.EncodeResponse:
        self.calls.append("Encode")
        await self.encoding_allowed.wait()
        return pb.EncodeResponse(
            encodings=[
                pb.Encoding(token_ids=b"" if text.strip() in self.unknown_texts else text.encode())
                for text in request.texts
            ]
        )

    async def Decode(self, request: pb.DecodeRequest, context: Any) -> pb.DecodeResponse:
        self.calls.append("Decode")
        await self.decoding_allowed.wait()
        texts = []
        for sequence in request.sequences:
            data = bytes(id_ for id_ in sequence.ids if id_ < EOS_ID)
            pieces = [bytes([i]) if i < EOS_ID else b"" for i in sequence.ids]
            texts.append(
                pb.DecodedText(
                    text=data.decode("utf-8", "replace"),
                    token_bytes=pieces if request.token_bytes else [],
                )
            )
        return pb.DecodeResponse(texts=texts)

    async def StreamDecode(
        self, request_iterator: AsyncIterator[pb.StreamDecodeRequest], context: Any
    ) -> AsyncGenerator[pb.StreamDecodeResponse, None]:
        decoders: dict[int, _Decoder] = {}
        async for frame in request_iterator:
            self.frames.append(frame)
            await self.decoding_allowed.wait()
            for opened in frame.opens:
                decoders[opened.key] = _Decoder(opened)
            yield pb.StreamDecodeResponse(
                entries=[_answer(decoders, entry) for entry in frame.entries]
            )
            for key in frame.closed_keys:
                decoders.pop(key, None)


def _answer(decoders: dict[int, _Decoder], entry: pb.DecodeEntry) -> pb.DecodedEntry:
    if entry.key not in decoders:
        error = pb.DecoderError(code=5, reason="DECODER_NOT_FOUND", message="no such decoder")
        return pb.DecodedEntry(key=entry.key, error=error)
    answer = decoders[entry.key].decode(entry)
    if entry.last or answer.HasField("stop"):
        del decoders[entry.key]
    return answer

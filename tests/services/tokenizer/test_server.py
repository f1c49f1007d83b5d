"""TokenizerService over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from octavo.errors import OctavoError
from octavo.rpc.channel import open_channel
from octavo.rpc.server import RpcServer
from octavo.rpc.status import error_from_rpc
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc
from services.tokenizer.config import TokenizerSettings
from services.tokenizer.metrics import TokenizerMetrics
from services.tokenizer.server import TOKENIZER_SERVICE, TokenizerService
from tests.services.tokenizer import llama2_vocabulary


class Served:
    """A service on a free port, and a client of it."""

    def __init__(self, stub: tokenizer_pb2_grpc.TokenizerServiceAsyncStub, metrics: Any) -> None:
        self.stub = stub
        self._metrics = metrics

    @property
    def num_decoders(self) -> float:
        return self.sample("decoders_open")

    def sample(self, name: str, **labels: str) -> float:
        found = self._metrics.registry.get_sample_value(f"octavo_tokenizer_{name}", labels)
        return float(found or 0)

    async def refusal(self, call: Awaitable[Any]) -> OctavoError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return error_from_rpc(caught.value)

    async def ids(self, text: str) -> list[int]:
        request = pb.EncodeRequest(texts=[text], add_special_tokens=False)
        return list((await self.stub.Encode(request)).encodings[0].token_ids)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(checkpoints: Path) -> AsyncIterator[Serve]:
    """Serves a checkpoint of the fixtures; all is ended with the test."""
    async with AsyncExitStack() as stack:

        async def started(name: str | Path = "chat-l0", **values: Any) -> Served:
            settings = TokenizerSettings(model=checkpoints / name, **values)
            metrics = TokenizerMetrics()
            service = TokenizerService(settings, metrics)
            await service.start()
            stack.push_async_callback(service.close)

            def register(server: grpc.aio.Server) -> None:
                tokenizer_pb2_grpc.add_TokenizerServiceServicer_to_server(service, server)

            server = RpcServer(
                address="127.0.0.1:0",
                services={TOKENIZER_SERVICE: register},
                observe=metrics.call,
            )
            port = await server.start()
            stack.push_async_callback(server.stop, 0)
            channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{port}"))
            return Served(tokenizer_pb2_grpc.TokenizerServiceStub(channel), metrics)

        yield started


async def test_the_tokenizer_is_described(serve: Serve) -> None:
    served = await serve()
    first = await served.stub.GetTokenizer(pb.GetTokenizerRequest())
    assert (first.bos_token_id, first.eos_token_id, first.unknown_token_id) == (0, 1, 2)
    assert first.vocabulary_size == 320
    assert list(first.special_token_ids) == [0, 1, 2]
    assert first.backend == "huggingface"
    assert len(first.fingerprint) == len(first.chat_template_hash) == 64
    other = await serve("fmo-l0")
    second = await other.stub.GetTokenizer(pb.GetTokenizerRequest())
    assert second.chat_template_hash == ""
    assert second.instance_id != first.instance_id


async def test_encode_and_decode_in_batches(serve: Serve) -> None:
    served = await serve()
    texts = ["Hello", "", "日🦙"]
    encoded = await served.stub.Encode(pb.EncodeRequest(texts=texts, offsets=True))
    assert len(encoded.encodings) == 3
    assert list(encoded.encodings[2].ends)[-1] == 2
    sequences = [pb.TokenIdList(ids=encoding.token_ids) for encoding in encoded.encodings]
    request = pb.DecodeRequest(sequences=sequences, token_bytes=True)
    decoded = await served.stub.Decode(request)
    assert [text.text for text in decoded.texts] == texts
    assert b"".join(decoded.texts[2].token_bytes).decode() == "日🦙"


async def test_special_tokens_are_skipped_unless_asked_for(serve: Serve) -> None:
    served = await serve()
    sequences = [pb.TokenIdList(ids=[0, 42, 1])]
    plain = await served.stub.Decode(pb.DecodeRequest(sequences=sequences))
    shown = await served.stub.Decode(
        pb.DecodeRequest(sequences=sequences, skip_special_tokens=False)
    )
    assert (plain.texts[0].text, shown.texts[0].text) == ("H", "<s>H</s>")


async def test_what_is_past_a_limit_is_refused_by_name(serve: Serve) -> None:
    served = await serve(max_text_bytes=100, max_batch=2)
    stub = served.stub
    await stub.Encode(pb.EncodeRequest(texts=["é" * 50]))
    long = await served.refusal(stub.Encode(pb.EncodeRequest(texts=["é" * 51])))
    assert long.metadata["field"] == "texts"
    assert long.metadata["limit"] == "at most 100 bytes long"
    many = await served.refusal(stub.Encode(pb.EncodeRequest(texts=["", "", ""])))
    assert many.metadata["field"] == "texts"
    lists = [pb.TokenIdList()] * 3
    assert (await served.refusal(stub.Decode(pb.DecodeRequest(sequences=lists)))).metadata[
        "field"
    ] == "sequences"
    bad = [pb.TokenIdList(ids=[320])]
    unknown = await served.refusal(stub.Decode(pb.DecodeRequest(sequences=bad)))
    assert unknown.metadata == {
        "field": "sequences.ids",
        "value": "320",
        "limit": "below the vocabulary's size, 320",
    }
    message = pb.TemplateMessage(role="user", content="x" * 101)
    chat = await served.refusal(stub.RenderChat(pb.RenderChatRequest(messages=[message])))
    assert chat.metadata["field"] == "chat"


async def test_render_chat(serve: Serve) -> None:
    served = await serve()
    message = pb.TemplateMessage(role="user", content="Hi <s>")
    rendered = await served.stub.RenderChat(pb.RenderChatRequest(messages=[message]))
    assert rendered.text == "<s>[user]\nHi <s></s>\n[assistant]\n"
    assert list(rendered.token_ids).count(0) == 1
    message.role = "critic"
    refused = await served.refusal(served.stub.RenderChat(pb.RenderChatRequest(messages=[message])))
    assert refused.reason == "CHAT_TEMPLATE_ERROR"
    other = await serve("fmo-l0")
    none = await other.refusal(other.stub.RenderChat(pb.RenderChatRequest(messages=[message])))
    assert none.reason == "NO_CHAT_TEMPLATE"


async def test_a_template_may_be_chosen(serve: Serve, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0].content }}!")
    served = await serve("fmo-l0", chat_template=str(template))
    message = pb.TemplateMessage(role="user", content="Hi")
    assert (await served.stub.RenderChat(pb.RenderChatRequest(messages=[message]))).text == "Hi!"
    assert len((await served.stub.GetTokenizer(pb.GetTokenizerRequest())).chat_template_hash) == 64


async def test_a_chat_model_of_llama_2_needs_no_template(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "Llama-2-7b-chat-hf"
    folder.mkdir()
    served = await serve(llama2_vocabulary.write_excerpt_json(folder))
    message = pb.TemplateMessage(role="user", content="Hello world")
    rendered = await served.stub.RenderChat(pb.RenderChatRequest(messages=[message]))
    assert rendered.text == "<s>[INST] Hello world [/INST]"
    message.role = "tool"
    refused = await served.refusal(served.stub.RenderChat(pb.RenderChatRequest(messages=[message])))
    assert (refused.reason, refused.metadata["field"]) == ("INVALID_FIELD", "chat.messages[0].role")


async def test_every_frame_is_answered(serve: Serve) -> None:
    served = await serve()
    ids = await served.ids("Hello")
    call = served.stub.StreamDecode()
    frames = [
        pb.StreamDecodeRequest(),
        pb.StreamDecodeRequest(opens=[pb.OpenDecoder(key=0), pb.OpenDecoder(key=1)]),
        pb.StreamDecodeRequest(closed_keys=[1, 99]),
        pb.StreamDecodeRequest(entries=[pb.DecodeEntry(key=0, token_ids=ids)]),
        pb.StreamDecodeRequest(entries=[pb.DecodeEntry(key=0, last=True)]),
    ]
    texts = []
    for frame in frames:
        await call.write(frame)
        answer = await call.read()
        assert isinstance(answer, pb.StreamDecodeResponse)
        texts.append([entry.text for entry in answer.entries])
    assert texts == [[], [], [], ["Hello"], [""]]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert served.num_decoders == 0


async def exchange(call: Any, frame: pb.StreamDecodeRequest) -> list[pb.DecodedEntry]:
    await call.write(frame)
    return list((await call.read()).entries)


async def test_errors_are_answered_for_their_key_alone(serve: Serve) -> None:
    served = await serve(max_decoders=2)
    call = served.stub.StreamDecode()
    ids = await served.ids("Hi")
    opens = [
        pb.OpenDecoder(key=1),
        pb.OpenDecoder(key=1),
        pb.OpenDecoder(),
        pb.OpenDecoder(key=2, prompt_tail_ids=[320]),
        pb.OpenDecoder(key=3),
        pb.OpenDecoder(key=4),
    ]
    entries = [
        pb.DecodeEntry(key=1, token_ids=ids),
        pb.DecodeEntry(key=9, token_ids=ids),
        pb.DecodeEntry(key=3, token_ids=[320]),
    ]
    found = await exchange(call, pb.StreamDecodeRequest(opens=opens, entries=entries))
    assert [(entry.key, entry.error.reason, entry.text) for entry in found] == [
        (1, "KEY_IN_USE", ""),
        (0, "INVALID_FIELD", ""),
        (2, "INVALID_FIELD", ""),
        (4, "TOO_MANY_DECODERS", ""),
        (1, "", "Hi"),
        (9, "UNKNOWN_KEY", ""),
        (3, "INVALID_FIELD", ""),
    ]
    assert found[3].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    found = await exchange(call, pb.StreamDecodeRequest(entries=entries[2:]))
    assert found[0].error.reason == "UNKNOWN_KEY"
    call.cancel()


async def test_a_stop_text_ends_its_decoder(serve: Serve) -> None:
    served = await serve()
    ids = await served.ids("one, two")
    call = served.stub.StreamDecode()
    opening = pb.OpenDecoder(key=5, stop_texts=[", t"], token_bytes=True)
    entry = pb.DecodeEntry(key=5, token_ids=ids)
    (found,) = await exchange(call, pb.StreamDecodeRequest(opens=[opening], entries=[entry]))
    assert (found.text, found.stop.text, found.stop.token_index) == ("one", ", t", 5)
    assert b"".join(found.token_bytes) == b"one, two"
    (found,) = await exchange(call, pb.StreamDecodeRequest(entries=[entry]))
    assert found.error.reason == "UNKNOWN_KEY"
    call.cancel()


async def test_a_stop_text_is_no_stop_before_enough_ids(serve: Serve) -> None:
    served = await serve()
    ids = await served.ids("one, two, two")
    call = served.stub.StreamDecode()
    opening = pb.OpenDecoder(key=5, stop_texts=[", t"], min_token_count=6)
    entry = pb.DecodeEntry(key=5, token_ids=ids)
    (found,) = await exchange(call, pb.StreamDecodeRequest(opens=[opening], entries=[entry]))
    assert (found.text, found.stop.token_index) == ("one, two", 10)
    call.cancel()


async def test_a_large_frame_is_decoded_as_a_small_one(serve: Serve) -> None:
    served = await serve()
    text = "Hello 日🦙 " * 2_000
    ids = await served.ids(text)
    call = served.stub.StreamDecode()
    opens = [pb.OpenDecoder(key=key) for key in range(3)]
    entries = [pb.DecodeEntry(key=key, token_ids=ids, last=True) for key in range(3)]
    found = await exchange(call, pb.StreamDecodeRequest(opens=opens, entries=entries))
    assert [entry.text for entry in found] == [text] * 3
    call.cancel()


@pytest.mark.parametrize("end", ["cancel", "half_close"])
async def test_a_stream_that_ends_leaves_no_decoder(serve: Serve, end: str) -> None:
    served = await serve()
    call = served.stub.StreamDecode()
    opens = [pb.OpenDecoder(key=key) for key in range(7)]
    await exchange(call, pb.StreamDecodeRequest(opens=opens))
    assert served.num_decoders == 7
    if end == "cancel":
        call.cancel()
    else:
        await call.done_writing()
    async with asyncio.timeout(10):
        while served.num_decoders:
            await asyncio.sleep(0.005)


async def test_streams_have_keys_of_their_own(serve: Serve) -> None:
    served = await serve()
    calls = [served.stub.StreamDecode() for _ in range(2)]
    for call in calls:
        assert not await exchange(call, pb.StreamDecodeRequest(opens=[pb.OpenDecoder(key=1)]))
    assert served.num_decoders == 2
    for call in calls:
        call.cancel()


async def test_what_is_asked_is_counted_and_timed(serve: Serve) -> None:
    served = await serve(max_batch=1)
    ids = await served.ids("hello")
    await served.refusal(served.stub.Encode(pb.EncodeRequest(texts=["a", "b"])))
    call = served.stub.StreamDecode()
    frame = pb.StreamDecodeRequest(opens=[pb.OpenDecoder(key=1)])
    frame.entries.add(key=1, token_ids=ids)
    frame.entries.add(key=2, token_ids=ids)
    await call.write(frame)
    await call.read()
    assert served.sample("streams_open") == 1
    assert served.sample("calls_total", method="Encode", outcome="ok") == 1
    assert served.sample("calls_total", method="Encode", outcome="refused") == 1
    assert served.sample("errors_total", reason="INVALID_FIELD") == 1
    assert served.sample("errors_total", reason="UNKNOWN_KEY") == 1
    assert served.sample("call_seconds_count", method="Encode") == 2
    assert served.sample("frame_seconds_count") == 1
    assert served.sample("encoded_ids_total") == len(ids)
    assert served.sample("decoded_ids_total") == 2 * len(ids)
    call.cancel()

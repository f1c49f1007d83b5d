"""A tokenizer client against a tokenizer on a socket: calls, decoders, frames, loss."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from octavo.client.services.decode_stream import FRAMES_IN_FLIGHT
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_types import DecoderOptions, Piece, TemplateMessage
from octavo.errors import DeadlineExceededError, OctavoError, UnavailableError
from tests.gateway.fake_tokenizer import FakeTokenizer
from tests.gateway.waiting import until

PLAIN = DecoderOptions(prompt_tail_ids=(1, 2))


class Sink:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.error: OctavoError | None = None

    def decoded(self, piece: Piece) -> None:
        self.pieces.append(piece)

    def fail(self, error: OctavoError) -> None:
        self.error = error

    def lose(self, error: OctavoError) -> None:
        self.error = error

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def has_ended(self) -> bool:
        return bool(self.pieces and (self.pieces[-1].last or self.pieces[-1].stop))


@pytest_asyncio.fixture
async def tokenizer() -> AsyncIterator[FakeTokenizer]:
    fake = FakeTokenizer()
    await fake.start()
    yield fake
    fake.decoding_allowed.set()
    await fake.kill()


@pytest_asyncio.fixture
async def client(tokenizer: FakeTokenizer) -> AsyncIterator[TokenizerClient]:
    connected = TokenizerClient(tokenizer.address)
    connected.start()
    await until(lambda: connected.is_ready)
    yield connected
    await connected.close()


async def test_the_calls(client: TokenizerClient) -> None:
    assert bytes(await client.encode("hé")) == "hé".encode()
    rendered = await client.render_chat(
        [TemplateMessage(role="user", content="x")], template_arguments={"a": [1, None]}
    )
    assert rendered.text == "<user>x<assistant>"
    assert await client.decode(b"h\xc3\xa9") == "hé"
    assert list(await client.token_bytes([104, 256])) == [b"h", b""]
    assert client.description is not None and client.description.fingerprint == "bytes"


async def test_a_call_has_a_deadline(tokenizer: FakeTokenizer, client: TokenizerClient) -> None:
    tokenizer.encoding_allowed.clear()
    with pytest.raises(DeadlineExceededError):
        await client.encode("x", timeout_s=0.05)
    tokenizer.encoding_allowed.set()


async def test_ids_of_one_moment_go_into_one_frame(
    tokenizer: FakeTokenizer, client: TokenizerClient
) -> None:
    sinks = [Sink() for _ in range(16)]
    decoders = [client.open_decoder(PLAIN, sink) for sink in sinks]
    for decoder in decoders:
        decoder.feed([104], last=False)
        decoder.feed([0xC3], last=False)
    await until(lambda: all(sink.pieces for sink in sinks))
    assert len(tokenizer.frames) == 1
    assert {len(frame.entries) for frame in tokenizer.frames} == {16}
    assert list(tokenizer.frames[0].opens[0].prompt_tail_ids) == [1, 2]
    for decoder in decoders:
        decoder.feed([0xA9], last=True)
    await until(lambda: all(sink.has_ended for sink in sinks))
    assert [sink.text for sink in sinks] == ["hé"] * 16
    assert [list(piece.token_ids) for piece in sinks[0].pieces] == [[104, 0xC3], [0xA9]]


async def test_a_slow_tokenizer_gets_merged_frames(
    tokenizer: FakeTokenizer, client: TokenizerClient
) -> None:
    tokenizer.decoding_allowed.clear()
    sink = Sink()
    decoder = client.open_decoder(PLAIN, sink)
    for sent in range(FRAMES_IN_FLIGHT):
        decoder.feed([97], last=False)
        await until(lambda sent=sent: len(decoder.unanswered) == sent + 1)  # type: ignore[misc] # a default binds the loop's variable
    for _ in range(50):
        decoder.feed([98], last=False)
    decoder.feed([99], last=True)
    tokenizer.decoding_allowed.set()
    await until(lambda: sink.has_ended)
    assert sink.text == "a" * FRAMES_IN_FLIGHT + "b" * 50 + "c"
    assert len(tokenizer.frames) == FRAMES_IN_FLIGHT + 1


async def test_a_stop_text_ends_a_decoder(
    tokenizer: FakeTokenizer, client: TokenizerClient
) -> None:
    sink = Sink()
    options = DecoderOptions(prompt_tail_ids=(), stop_texts=("bc",), token_bytes=True, min_tokens=1)
    decoder = client.open_decoder(options, sink)
    decoder.feed(b"abcd", last=False)
    await until(lambda: sink.has_ended)
    stop = sink.pieces[-1].stop
    assert stop is not None and (stop.text, stop.token_index) == ("bc", 2)
    assert sink.text == "a"
    assert list(sink.pieces[0].token_bytes) == [b"a", b"b", b"c"]
    assert tokenizer.frames[0].opens[0].min_token_count == 1
    decoder.feed([1], last=False)  # it is gone: nothing happens
    decoder.close()


async def test_a_closed_decoder_is_dropped(
    tokenizer: FakeTokenizer, client: TokenizerClient
) -> None:
    sink, other = Sink(), Sink()
    decoder = client.open_decoder(PLAIN, sink)
    decoder.feed([97], last=False)
    await until(lambda: bool(sink.pieces))
    decoder.close()
    client.open_decoder(PLAIN, other).feed([98], last=True)
    await until(lambda: other.has_ended)
    assert [list(frame.closed_keys) for frame in tokenizer.frames][-1] == [1]
    assert len(sink.pieces) == 1


async def test_a_loss_ends_every_decoder_and_the_client_returns(
    tokenizer: FakeTokenizer, client: TokenizerClient
) -> None:
    sinks = [Sink() for _ in range(10)]
    for sink in sinks:
        client.open_decoder(PLAIN, sink).feed([97], last=False)
    await until(lambda: all(sink.pieces for sink in sinks))
    await tokenizer.kill()
    await until(lambda: all(sink.error for sink in sinks), within_s=1)
    assert {sink.error.reason for sink in sinks if sink.error} == {"TOKENIZER_LOST"}
    with pytest.raises(UnavailableError) as raised:
        await client.encode("x")
    assert raised.value.reason == "TOKENIZER_LOST"
    await tokenizer.start()
    await until(lambda: client.is_ready, within_s=3)
    sink = Sink()
    client.open_decoder(PLAIN, sink).feed([97], last=True)
    await until(lambda: sink.has_ended)
    assert sink.text == "a"


async def test_a_tokenizer_that_drains_hears_of_decoders_without_ids_and_finishes_them(
    tokenizer: FakeTokenizer, client: TokenizerClient
) -> None:
    sink = Sink()
    decoder = client.open_decoder(PLAIN, sink)
    await tokenizer.set_serving(False)
    await until(lambda: bool(tokenizer.frames))
    assert [len(frame.opens) for frame in tokenizer.frames] == [1]
    assert not client.is_ready
    decoder.feed(b"hi", last=True)
    await until(lambda: sink.has_ended)
    assert sink.text == "hi"
    assert sink.error is None

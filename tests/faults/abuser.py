"""A process that sends what no server should be moved by: python -m tests.faults.abuser HTTP GRPC

`go` on stdin starts it, `stop` ends it; each `stop` is answered by how its requests ended, as JSON.
"""

from __future__ import annotations

import itertools
import json
import math
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from octavo.v1 import generation_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Call = grpc.UnaryUnaryMultiCallable[bytes, bytes]

INTERVAL_S = 0.1


def main() -> None:
    http_port, grpc_port = map(int, sys.argv[1:])
    channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
    acts = itertools.cycle(acts_of(http_port, channel))
    running, ended = threading.Event(), Counter[str]()

    def abuse() -> None:
        while True:
            running.wait()
            name, act = next(acts)
            ended[f"{name}: {act()}"] += 1
            time.sleep(INTERVAL_S)

    threading.Thread(target=abuse, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "go\n":
            running.set()
        else:
            running.clear()
            print(json.dumps(ended), flush=True)


def acts_of(http_port: int, channel: grpc.Channel) -> list[tuple[str, Callable[[], str]]]:
    """Names and acts; large ones come one in three, and never in a row."""
    call: Call = channel.unary_unary("/octavo.v1.GenerationService/Generate")
    nan = pb.GenerateRequest(prompt="x", sampling=pb.SamplingParameters(temperature=math.nan))
    prompt = pb.GenerateRequest(prompt="x" * 10_000_000).SerializeToString()
    ids = pb.GenerateRequest(token_ids=pb.TokenIds(ids=[7] * 1_000_000)).SerializeToString()
    long_prompt = json.dumps({"prompt": "x" * 10_000_000}).encode()
    huge = (("x-long", "x" * 20_000),)
    return [
        ("NaN", lambda: rpc(call, nan.SerializeToString())),
        ("NaN in JSON", lambda: http(http_port, b'{"prompt":"x","top_p":NaN}')),
        ("a prompt of 10 MB", lambda: rpc(call, prompt)),
        ("no message", lambda: rpc(call, b"\xff" * 100)),
        ("a number past 64 bits", lambda: http(http_port, b'{"prompt":"x","seed":%d}' % 10**21)),
        ("a million ids", lambda: rpc(call, ids)),
        ("deep JSON", lambda: http(http_port, b'{"prompt":' + b"[" * 100_000)),
        ("a lone surrogate", lambda: http(http_port, b'{"prompt":"\\ud800"}')),
        ("a prompt of 10 MB in JSON", lambda: http(http_port, long_prompt)),
        ("long metadata", lambda: rpc(call, nan.SerializeToString(), huge)),
        ("a key given twice", lambda: http(http_port, b'{"prompt":"x","n":1,"n":1}')),
        ("no route", lambda: http(http_port, b"", path=b"/v2")),
    ]


def rpc(call: Call, message: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    try:
        call(message, timeout=20, metadata=metadata)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def http(port: int, body: bytes, path: bytes = b"/v1/completions") -> str:
    """The status; a server may close before it has read what it refuses."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" % path
        try:
            connection.sendall(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
            return connection.recv(100)[9:12].decode()
        except ConnectionError:
            return "closed"


if __name__ == "__main__":
    main()

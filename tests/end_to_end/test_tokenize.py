"""Text to ids and back, through both doors and the real tokenizer."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from octavo.v1 import generation_pb2 as pb
from tests.end_to_end.product import Product


def post(product: Product, path: str, **fields: Any) -> Any:
    request = urllib.request.Request(
        f"{product.http}{path}", json.dumps(fields).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_a_text_becomes_the_same_ids_by_http_and_grpc_and_comes_back(tiny: Product) -> None:
    text = "Grüße, world"
    over_http = post(tiny, "/v1/tokenize", prompt=text, return_token_strs=True)
    with tiny.generation() as stub:
        over_grpc = stub.Tokenize(pb.TokenizeRequest(text=text))
        back = stub.Detokenize(pb.DetokenizeRequest(token_ids=over_grpc.token_ids)).text
    assert over_http["tokens"] == list(over_grpc.token_ids)
    assert over_http["count"] == len(over_http["tokens"]) == len(over_http["token_strs"])
    assert back == text
    assert text in post(tiny, "/v1/detokenize", tokens=over_http["tokens"])["prompt"]


def test_no_text_and_a_conversation(tiny: Product) -> None:
    assert post(tiny, "/v1/tokenize", prompt="", add_special_tokens=False)["tokens"] == []
    messages = [{"role": "user", "content": "hi"}]
    answer = post(tiny, "/v1/tokenize", messages=messages)
    assert answer["count"] == len(answer["tokens"]) > 0

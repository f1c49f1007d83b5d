from __future__ import annotations

import json
import shlex

from google.protobuf import json_format

from octavo.launcher.greeting import gateway_address, greeting
from octavo.v1 import generation_pb2

PORTS = {"http_port": 81, "grpc_port": 82, "metrics_port": 83}


def _text(host: str = "127.0.0.1") -> str:
    return greeting(model="it's mine", host=host, ports=PORTS, logs="/logs")


def _command(name: str) -> list[str]:
    """The words of the command that starts with `name`, as a shell reads them."""
    lines = _text().partition(f"\n  {name} ")[2].splitlines()
    return shlex.split(f"{lines[0].removesuffix(chr(92))} {lines[1]}")


def test_the_request_for_curl_is_a_chat() -> None:
    words = _command("curl")
    assert words[1] == "http://127.0.0.1:81/v1/chat/completions"
    body = json.loads(words[-1])
    assert body["model"] == "it's mine" and body["stream"] is True
    assert body["messages"][0]["role"] == "user"


def test_the_request_for_grpcurl_is_one_of_the_proto() -> None:
    words = _command("grpcurl")
    body = words[words.index("-d") + 1]
    request = json_format.Parse(body, generation_pb2.GenerateRequest())
    assert request.chat.messages[0].content == "What is the capital of France?"
    assert words[-2:] == ["127.0.0.1:82", "octavo.v1.GenerationService/StreamGenerate"]


def test_the_python_program_compiles() -> None:
    program = _text().partition("<<'END'\n")[2].removesuffix("END")
    assert "127.0.0.1:82" in program
    compile(program, "greeting", "exec")


def test_the_chat_is_with_this_server() -> None:
    (line,) = [line for line in _text().splitlines() if " chat" in line and line.startswith("  ")]
    assert line.endswith("octavo chat --address 127.0.0.1:82")
    usual = greeting(model="m", host="127.0.0.1", ports=PORTS | {"grpc_port": 8001}, logs="/logs")
    assert "octavo chat\n" in usual


def test_the_status_is_of_this_server() -> None:
    assert "octavo status --metrics-address 127.0.0.1:83\n" in _text()


def test_an_address_of_all_interfaces_is_printed_as_one_that_can_be_called() -> None:
    assert gateway_address("0.0.0.0", PORTS) == "127.0.0.1:82"
    assert gateway_address("::", PORTS) == "[::1]:82"
    assert "http://127.0.0.1:81/" in _text("0.0.0.0")

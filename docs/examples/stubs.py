"""Unary, stream and session on the stubs alone: `python docs/examples/stubs.py [ADDRESS]`."""

import sys

import grpc

from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import GenerationServiceStub


def ask(question: str) -> pb.GenerateRequest:
    chat = pb.ChatInput(messages=[pb.ChatMessage(role="user", content=question)])
    sampling = pb.SamplingParameters(temperature=0)
    stopping = pb.StoppingParameters(max_tokens=64)
    return pb.GenerateRequest(chat=chat, sampling=sampling, stopping=stopping)


with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001") as channel:
    stub = GenerationServiceStub(channel)
    print(stub.Generate(ask("What is the capital of France?")).outputs[0].text)
    for event in stub.StreamGenerate(ask("What is the capital of France?")):
        print(event.delta.text, end="", flush=True)
    print()
    texts = {1: "", 2: ""}
    questions = ["Name a color.", "Name an animal."]
    opens = (pb.OpenSessionRequest(key=k, open=ask(q)) for k, q in enumerate(questions, 1))
    for answer in stub.OpenSession(opens):
        texts[answer.key] += answer.delta.text
    print(*(text.replace("\n", " ") for text in texts.values()), sep="\n")

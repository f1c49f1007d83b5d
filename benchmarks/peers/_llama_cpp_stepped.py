"""llama.cpp, step by step (benchmarks/_stepping.py), through llama-cpp-python's C interface.

    .venv-peers/bin/python benchmarks/peers/_llama_cpp_stepped.py FILE.gguf --threads 2

Runs in an environment of its own, where nothing of Octavo is installed. Times are those of
`llama_decode` and `llama_synchronize` alone: no sampling, no scheduler, and none of the Python
around. Prompts are computed once and copied to all streams; each stream has its own KV cache.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import sys
import time

import llama_cpp as llama

UBATCH = 512  # llama.cpp's own default


class LlamaCpp:
    """Implements `Stepped`."""

    def __init__(self, path: str, threads: int) -> None:
        llama.llama_log_set(_quiet, ctypes.c_void_p())
        llama.llama_backend_init()
        self._threads = threads
        parameters = llama.llama_model_default_params()
        self._model = llama.llama_model_load_from_file(path.encode(), parameters)
        assert self._model, f"{path} cannot be loaded"
        self._vocabulary_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._random = random.Random(0)
        self._context = None
        self._streams, self._position = 0, 0

    def open(self, streams: int, context: int) -> None:
        """A new context; twice as long as its prompts, or 1,024 tokens longer."""
        self.close()
        self._make_context(streams, context + max(context, 1024))
        self._prefill(context)
        memory = llama.llama_get_memory(self._context)
        for stream in range(1, streams):
            llama.llama_memory_seq_cp(memory, 0, stream, -1, -1)
        self._streams, self._position = streams, context

    def decode(self, steps: int) -> dict[str, float]:
        """A token of every stream in each step, with its logits."""
        seconds = 0.0
        for _ in range(steps):
            rows = [(self._id(), self._position, stream) for stream in range(self._streams)]
            seconds += self._decode(rows, all_logits=True)
            self._position += 1
        return {"tokens": steps * self._streams, "seconds": seconds}

    def prefill(self, tokens: int) -> dict[str, float]:
        """The prompt, with the logits of its last token."""
        self.close()
        self._make_context(1, tokens)
        return {"tokens": tokens, "seconds": self._prefill(tokens)}

    def close(self) -> None:
        """Frees the context."""
        if self._context is not None:
            llama.llama_free(self._context)
        self._context = None

    def _make_context(self, streams: int, tokens_each: int) -> None:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = streams * (tokens_each + -tokens_each % 256)
        parameters.n_batch = 2048
        parameters.n_ubatch = UBATCH
        parameters.n_seq_max = streams
        parameters.n_threads = parameters.n_threads_batch = self._threads
        parameters.kv_unified = False
        self._context = llama.llama_init_from_model(self._model, parameters)
        assert self._context, "no context"

    def _prefill(self, tokens: int) -> float:
        seconds = 0.0
        for first in range(0, tokens, 2048):
            count = min(2048, tokens - first)
            rows = [(self._id(), first + index, 0) for index in range(count)]
            seconds += self._decode(rows, all_logits=False)
        return seconds

    def _decode(self, rows: list[tuple[int, int, int]], *, all_logits: bool) -> float:
        batch = llama.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for index, (token_id, position, stream) in enumerate(rows):
            batch.token[index], batch.pos[index] = token_id, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, stream
            batch.logits[index] = all_logits or index + 1 == len(rows)
        start = time.perf_counter()
        status = llama.llama_decode(self._context, batch)
        llama.llama_synchronize(self._context)
        seconds = time.perf_counter() - start
        llama.llama_batch_free(batch)
        assert status == 0, f"llama_decode: {status}"
        return seconds

    def _id(self) -> int:
        return self._random.randrange(self._vocabulary_size)


@llama.llama_log_callback
def _quiet(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    """Nothing of what it logs."""


def quantise(source: str, target: str, threads: int) -> None:
    """Writes the weights as Q8_0, whatever they were."""
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = llama.LLAMA_FTYPE_MOSTLY_Q8_0
    parameters.allow_requantize = True
    parameters.nthread = threads
    llama.llama_log_set(_quiet, ctypes.c_void_p())
    status = llama.llama_model_quantize(source.encode(), target.encode(), parameters)
    assert status == 0, f"llama_model_quantize: {status}"


def main() -> None:
    """Answers orders until stdin ends; with --quantise, writes FILE.gguf and ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--quantise", metavar="SOURCE")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.quantise:
        quantise(arguments.quantise, arguments.file, arguments.threads)
        return
    engine = LlamaCpp(arguments.file, arguments.threads)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(engine, order.pop("do"))(**order)
        print(json.dumps(answer or {}), flush=True)


if __name__ == "__main__":
    main()

"""Decoding speed of the worker's model against transformers' eager mode, in one run.

    python -m benchmarks.decode --model FOLDER [--threads 2] [--output FILE.json]

Regime: the model alone (no gateway, no tokenizer, no scheduler), random ids, greedy, both in
bfloat16 with the same dequantised weights, in one process on the same threads. The two take turns
every few steps, so that whatever else the machine does hits both; a figure is the median of single
steps. At batch 1 decoding reads every weight once a step and is bound by memory; at 32 it is bound
by arithmetic, and here by the attention over 32 contexts. Threads wait as a rank's
do (docs/decisions/0005). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

# As a rank does; read by OpenMP when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._record import record
from services.worker.batch import Batch
from services.worker.checkpoint.fp8 import choose_dialect
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.model_config import ModelConfig
from services.worker.models import Model, load_model

BLOCK_TOKENS = 16
STEPS_OF_A_TURN = 4


class Ours:
    """`batch` sequences of equal length on the worker's model."""

    def __init__(self, model: Model, prompts: torch.Tensor, num_steps: int) -> None:
        self._model = model
        self._num_sequences, prompt_tokens = prompts.shape
        blocks = -(-(prompt_tokens + num_steps) // BLOCK_TOKENS)
        self._tables = torch.arange(self._num_sequences * blocks).view(-1, blocks)
        self._cache = model.allocate_kv_cache(self._num_sequences * blocks, BLOCK_TOKENS)
        self._num_done = 0
        self._next = self._run(prompts)

    def step(self) -> None:
        """Decodes one token of every sequence."""
        self._next = self._run(self._next[:, None])

    def _run(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [sequences, new tokens] -> the next id of each."""
        num_new = ids.shape[1]
        positions = torch.arange(self._num_done, self._num_done + num_new)
        slots = self._tables[:, positions // BLOCK_TOKENS] * BLOCK_TOKENS + positions % BLOCK_TOKENS
        self._num_done += num_new
        starts = torch.arange(self._num_sequences + 1) * num_new
        batch = Batch(
            token_ids=ids.flatten(),
            positions=positions.repeat(self._num_sequences),
            slots=slots.flatten(),
            query_starts=starts,
            context_lengths=torch.full((self._num_sequences,), self._num_done),
            block_tables=self._tables,
            logit_rows=starts[1:] - 1,
        )
        return self._model.forward(batch, self._cache).argmax(-1)


class Theirs:
    """The same on transformers' eager mode, with its own cache."""

    def __init__(self, model: LlamaForCausalLM, prompts: torch.Tensor) -> None:
        self._model = model
        self._past: Any = None
        self._next = self._run(prompts)

    def step(self) -> None:
        """Decodes one token of every sequence."""
        self._next = self._run(self._next[:, None])

    @torch.inference_mode()
    def _run(self, ids: torch.Tensor) -> torch.Tensor:
        output = self._model(ids, past_key_values=self._past, use_cache=True, logits_to_keep=1)
        self._past = output.past_key_values
        result: torch.Tensor = output.logits[:, -1].argmax(-1)
        return result


def load_theirs(folder: Path) -> LlamaForCausalLM:
    """Transformers' Llama with the checkpoint's weights, dequantised to bfloat16."""
    config = ModelConfig.read(folder)
    reader, dialect = CheckpointReader(folder), choose_dialect(config.quantization)
    state = {}
    for name in reader.tensors:
        if name.endswith("norm.weight") or name == "model.embed_tokens.weight":
            state[name] = reader.read(name).bfloat16()
        elif name.endswith(".weight"):
            quantised = dialect.read(reader, name.removesuffix(".weight"))
            weight = quantised[0].expand(torch.bfloat16) if quantised else reader.read(name)
            state[name] = weight.bfloat16()
    values = json.loads((folder / "config.json").read_text())
    values.pop("quantization_config", None)
    model = LlamaForCausalLM._from_config(  # noqa: SLF001  # the one door that takes the mode
        LlamaConfig(**values), attn_implementation="eager", dtype=torch.bfloat16
    )
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.eval()


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(
    ours: Model, theirs: LlamaForCausalLM, batch: int, prompt_tokens: int, num_steps: int
) -> dict[str, float]:
    """Medians of both for one batch size, in tokens per second over all sequences."""
    rng = random.Random(batch)
    rows = [
        [rng.randrange(ours.config.vocab_size) for _ in range(prompt_tokens)] for _ in range(batch)
    ]
    prompts = torch.tensor(rows)
    runs: list[Ours | Theirs] = []
    our_prefill = seconds(lambda: runs.append(Ours(ours, prompts, num_steps)))
    their_prefill = seconds(lambda: runs.append(Theirs(theirs, prompts)))
    times: list[list[float]] = [[], []]
    while len(times[0]) < num_steps:
        for run, taken in zip(runs, times, strict=True):
            taken += [seconds(run.step) for _ in range(STEPS_OF_A_TURN)]
    our_step, their_step = (median(taken[STEPS_OF_A_TURN:]) for taken in times)
    return {
        "batch": batch,
        "prompt_tokens": prompt_tokens,
        "steps": num_steps,
        "ours_tokens_per_s": round(batch / our_step, 1),
        "transformers_tokens_per_s": round(batch / their_step, 1),
        "ratio": round(their_step / our_step, 3),
        "ours_prefill_tokens_per_s": round(batch * prompt_tokens / our_prefill, 1),
        "transformers_prefill_tokens_per_s": round(batch * prompt_tokens / their_prefill, 1),
    }


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64, help="decoded tokens per sequence")
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cpu = torch.device("cpu")
    ours = load_model(arguments.model, device=cpu, dtype=torch.bfloat16)
    theirs = load_theirs(arguments.model)
    figures = []
    for batch in arguments.batches:
        figures.append(compare(ours, theirs, batch, arguments.prompt_tokens, arguments.steps))
        print(
            "batch {batch}: ours {ours_tokens_per_s} tokens/s, transformers"
            " {transformers_tokens_per_s}: ratio {ratio}; prompts: {ours_prefill_tokens_per_s}"
            " against {transformers_prefill_tokens_per_s} tokens/s".format(**figures[-1]),
            flush=True,
        )
    record(
        "decode",
        arguments.model,
        arguments.output,
        threads=arguments.threads,
        gomp_spincount=os.environ["GOMP_SPINCOUNT"],
        figures=figures,
    )


if __name__ == "__main__":
    main()

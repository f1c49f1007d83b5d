"""Decoding speed of the worker's model against transformers' eager mode, in one run.

    python -m benchmarks.decode --model FOLDER [--threads 2] [--output FILE.json]

Regime: the model alone (no gateway, no tokenizer, no scheduler), random ids, greedy, both in
bfloat16 with the same dequantised weights, in one process on the same threads. The two take turns
every few steps, so that whatever else the machine does hits both; a figure is the median of single
steps. Turns in which other processes took too much of the machine are left out where quiet ones
remain. At batch 1 decoding reads every weight once a step and is bound by memory; at 32 it is bound
by arithmetic, and here by the attention over 32 contexts. Threads wait as a rank's do
(docs/decisions/0005). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from services.worker.rank.thread_waiting import thread_waiting

os.environ.update(thread_waiting(os.environ))  # read by OpenMP when torch is imported

import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._machine import measured, wait_until_quiet
from benchmarks._record import record
from services.worker.batch import Batch
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.models import Model, load_model, read_config

BLOCK_TOKENS = 16
STEPS_OF_A_TURN = 4
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


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
    config = read_config(folder)
    reader, dialect = CheckpointReader(folder), choose_dialect(config.quantization)
    state = {}
    for name in reader.tensors:
        if name.endswith("norm.weight") or name == "model.embed_tokens.weight":
            state[name] = reader.read(name).bfloat16()
        elif name.endswith(".weight"):
            matrix = read_matrix(reader, dialect, name.removesuffix(".weight"))
            expanded = matrix.expand(torch.bfloat16) if isinstance(matrix, Fp8Matrix) else matrix
            state[name] = expanded.bfloat16()
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Some steps of both, and the share of the machine that other processes took meanwhile."""

    ours: list[float]
    theirs: list[float]
    others_share: float


def take_turns(
    ours: Ours, theirs: Theirs, num_turns: int, arguments: argparse.Namespace
) -> list[Turn]:
    """Steps both, a few steps each in turn."""
    us, turns = {"us": [psutil.Process()]}, []
    for _ in range(num_turns):
        wait_until_quiet(us, limit=arguments.others_limit, patience_s=arguments.patience_s)
        with measured(us) as usage:
            taken = [[seconds(run.step) for _ in range(STEPS_OF_A_TURN)] for run in (ours, theirs)]
        turns.append(Turn(ours=taken[0], theirs=taken[1], others_share=usage.others_share))
    return turns


def compare(
    ours: Model, theirs: LlamaForCausalLM, batch: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """Medians of both for one batch size, in tokens per second over all sequences."""
    rng, num_prompt = random.Random(batch), arguments.prompt_tokens
    rows = [
        [rng.randrange(ours.config.vocab_size) for _ in range(num_prompt)] for _ in range(batch)
    ]
    prompts = torch.tensor(rows)
    start = time.perf_counter()
    our_run = Ours(ours, prompts, arguments.steps)
    between = time.perf_counter()
    their_run = Theirs(theirs, prompts)
    our_prefill, their_prefill = between - start, time.perf_counter() - between
    turns = take_turns(our_run, their_run, arguments.steps // STEPS_OF_A_TURN, arguments)[1:]
    quiet = [turn for turn in turns if turn.others_share <= arguments.others_limit]
    kept = quiet or turns
    our_step = median(taken for turn in kept for taken in turn.ours)
    their_step = median(taken for turn in kept for taken in turn.theirs)
    return {
        "batch": batch,
        "prompt_tokens": num_prompt,
        "turns": len(turns),
        "quiet_turns": len(quiet),
        "ours_tokens_per_s": round(batch / our_step, 1),
        "transformers_tokens_per_s": round(batch / their_step, 1),
        "ratio": round(their_step / our_step, 3),
        "ours_prefill_tokens_per_s": round(batch * num_prompt / our_prefill, 1),
        "transformers_prefill_tokens_per_s": round(batch * num_prompt / their_prefill, 1),
    }


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64, help="decoded tokens per sequence")
    parser.add_argument("--others-limit", type=float, default=0.15, help="share in a quiet turn")
    parser.add_argument("--patience-s", type=float, default=0.0, help="longest wait for one")
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cpu = torch.device("cpu")
    ours = load_model(arguments.model, device=cpu, dtype=torch.bfloat16)
    theirs = load_theirs(arguments.model)
    figures = []
    for batch in arguments.batches:
        figures.append(compare(ours, theirs, batch, arguments))
        print(
            "batch {batch}: ours {ours_tokens_per_s} tokens/s, transformers"
            " {transformers_tokens_per_s}: ratio {ratio}; prompts: {ours_prefill_tokens_per_s}"
            " against {transformers_prefill_tokens_per_s} tokens/s; {quiet_turns} of {turns} turns"
            " were quiet".format(**figures[-1]),
            flush=True,
        )
    record(
        "decode",
        arguments.model,
        arguments.output,
        threads=arguments.threads,
        waiting={name: os.environ[name] for name in WAITING if name in os.environ},
        figures=figures,
    )


if __name__ == "__main__":
    main()

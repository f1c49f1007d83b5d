"""A row's bits depend on its own sequence alone: not on the batch, the chunks or the neighbours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from services.worker.kernels import Backend
from services.worker.models import Model, load_model
from tests.services.worker import tiny_llama
from tests.services.worker.paged_sequences import PagedSequence, PagedSequences

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Around the edges of row tiles (8 to 128), query tiles (32) and key tiles (256).
PROMPT_LENGTHS = [1, 2, 5, 8, 9, 31, 33, 64, 130, 250, 255, 256, 257, 300, 400, 520]
NUM_DECODED = 6


def prompts(model: Model, rng: random.Random) -> list[list[int]]:
    longest = model.config.max_context - NUM_DECODED
    return [
        [rng.randrange(model.config.vocab_size) for _ in range(length + NUM_DECODED)]
        for length in PROMPT_LENGTHS
        if length <= longest
    ]


def random_step(
    sequences: list[PagedSequence], rng: random.Random
) -> list[tuple[PagedSequence, int]]:
    """Some of the unfinished sequences in random order, each with a random chunk."""
    budget, work = rng.choice([8, 40, 130, 600]), []
    for sequence in rng.sample(sequences, len(sequences)):
        num_prompt_left = len(sequence.ids) - NUM_DECODED - sequence.num_done
        if sequence.num_done == len(sequence.ids) or budget <= 0 or rng.random() < 0.2:
            continue
        chunk = min(max(num_prompt_left, 1), budget, rng.choice([1, 3, 32, 100, 1000]))
        work.append((sequence, chunk))
        budget -= chunk
    return work


def logits_together(
    paged: PagedSequences, all_ids: list[list[int]], rng: random.Random
) -> Iterator[torch.Tensor]:
    """What `logits_alone` gives for each, from steps of random composition."""
    sequences = [PagedSequence(list(ids)) for ids in all_ids]
    logits: dict[PagedSequence, list[torch.Tensor]] = {item: [] for item in sequences}
    while any(item.num_done < len(item.ids) for item in sequences):
        work = random_step(sequences, rng)
        if not work:
            continue
        for (sequence, _), row in zip(work, paged.step(work), strict=True):
            if sequence.num_done >= len(sequence.ids) - NUM_DECODED:
                logits[sequence].append(row)
    paged.release(sequences)
    for item in sequences:
        yield torch.stack(logits[item])


def assert_row_invariant(model: Model, *, num_trials: int) -> None:
    rng = random.Random(0)
    paged = PagedSequences(model)
    all_ids = prompts(model, rng)
    alone = [paged.logits_alone(ids, len(ids) - NUM_DECODED) for ids in all_ids]
    for _ in range(num_trials):
        together = logits_together(paged, all_ids, rng)
        for ids, expected, given in zip(all_ids, alone, together, strict=True):
            assert torch.equal(given, expected), f"prompt of {len(ids) - NUM_DECODED}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["fmo-l0", "fmo-l1", "fmo-l2"])
def test_a_row_keeps_its_bits_in_any_batch_and_chunking(
    checkpoints: Path, name: str, dtype: torch.dtype
) -> None:
    model = load_model(checkpoints / name, device=CPU, dtype=dtype)
    assert_row_invariant(model, num_trials=2)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_a_row_keeps_its_bits_with_odd_shapes(tmp_path: Path, num_kv_heads: int) -> None:
    folder = tiny_llama.write(tmp_path, num_key_value_heads=num_kv_heads)
    assert_row_invariant(load_model(folder, device=CPU, dtype=None), num_trials=2)


@pytest.mark.parametrize("num_others", [1, 7, 8, 31])
def test_a_decoding_row_keeps_its_bits_beside_others(checkpoints: Path, num_others: int) -> None:
    model = load_model(checkpoints / "fmo-l1", device=CPU, dtype=None)
    paged = PagedSequences(model)
    ids = [(7 * n) % 300 for n in range(40)]
    alone = paged.logits_alone(ids, 39)[-1]
    sequences = [PagedSequence(list(ids))] + [
        PagedSequence([(n * other) % 300 for n in range(5 + 9 * other)])
        for other in range(1, num_others + 1)
    ]
    for sequence in sequences:
        paged.step([(sequence, len(sequence.ids) - 1)])
    for place in (0, num_others // 2, num_others):
        order = [*sequences[1:]]
        order.insert(place, sequences[0])
        logits = paged.step([(sequence, 1) for sequence in order])
        assert torch.equal(logits[place], alone)
        for sequence in sequences:
            sequence.num_done -= 1


@pytest.mark.parametrize(
    ("backend", "block_tokens"),
    [("reference", 1), ("reference", 8), ("reference", 256), ("auto", 32), ("auto", 256)],
)
def test_the_bits_do_not_depend_on_the_block_size(
    checkpoints: Path, backend: Backend, block_tokens: int
) -> None:
    model = load_model(checkpoints / "fmo-l0", device=CPU, dtype=None, backend=backend)
    ids = list(range(300))
    expected = PagedSequences(model).logits_alone(ids, 290)
    assert torch.equal(
        PagedSequences(model, block_tokens=block_tokens).logits_alone(ids, 290), expected
    )


def test_an_overflow_does_not_reach_a_neighbour(checkpoints: Path) -> None:
    model = load_model(checkpoints / "fmo-l0", device=CPU, dtype=torch.float16)
    paged = PagedSequences(model)
    expected = paged.logits_alone(list(range(20)), 10)
    # Whatever a block held before, its hidden keys weigh nothing.
    paged.cache.storage.fill_(torch.finfo(torch.float16).max)
    assert torch.equal(paged.logits_alone(list(range(20)), 10), expected)


@pytest.mark.slow
@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_default_model_keeps_every_bit(default_model: Path, num_threads: int) -> None:
    before = torch.get_num_threads()
    try:
        model = load_model(default_model, device=CPU, dtype=None, num_threads=num_threads)
        assert_row_invariant(model, num_trials=1)
    finally:
        torch.set_num_threads(before)

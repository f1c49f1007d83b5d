"""Limits that cannot work are refused by name; the cache is as large as memory and use allow."""

from __future__ import annotations

import dataclasses

import pytest

from octavo.errors import InvalidArgumentError
from services.worker.engine.engine_config import EngineConfig, count_kv_blocks
from tests.services.worker.engine.toy_model import ROOMY


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(EngineConfig)])
def test_every_limit_must_be_positive(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        dataclasses.replace(ROOMY, **{name: 0})
    assert caught.value.metadata == {"field": name, "value": "0", "limit": "at least 1"}


def test_a_step_has_a_token_for_everyone_who_decodes() -> None:
    with pytest.raises(InvalidArgumentError, match="max_step_tokens is 31"):
        dataclasses.replace(ROOMY, max_step_tokens=31, max_running=32)


def test_a_small_cache_lowers_the_context() -> None:
    assert dataclasses.replace(ROOMY, num_blocks=10).context_limit == 40
    assert dataclasses.replace(ROOMY, num_blocks=1000).context_limit == ROOMY.max_context


def _count(kv_cache_memory_bytes: int) -> int:
    return count_kv_blocks(
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        bytes_per_block=100,
        block_tokens=16,
        max_running=4,
        max_context=33,
    )


def test_blocks_are_what_fits_but_no_more_than_could_be_in_use() -> None:
    assert _count(799) == 7
    assert _count(10**9) == 4 * 3


def test_memory_without_room_for_a_block_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="kv_cache_memory_bytes is 99"):
        _count(99)

"""The limits of an engine, checked once, where they are put together."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import invalid_field


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """How much the engine holds and does at once.

    `max_context` counts prompt and output together; a cache smaller than one such context lowers
    it (`context_limit`).
    """

    num_blocks: int
    block_tokens: int = 16
    max_step_tokens: int
    max_running: int
    max_waiting: int
    max_waiting_prompt_tokens: int
    max_context: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise invalid_field(name, getattr(self, name), "at least 1")
        if self.max_step_tokens < self.max_running:
            # Else decodes alone could fill every step, and no prompt would ever go on.
            limit = f"at least max_running ({self.max_running})"
            raise invalid_field("max_step_tokens", self.max_step_tokens, limit)
        if self.context_limit < 2:
            raise invalid_field("max_context", self.context_limit, "at least 2 tokens")

    @property
    def context_limit(self) -> int:
        """Tokens that one request may have, prompt and output together."""
        return min(self.max_context, self.num_blocks * self.block_tokens)

    def num_blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold this many tokens."""
        return -(-num_tokens // self.block_tokens)


def count_kv_blocks(
    *,
    kv_cache_memory_bytes: int,
    bytes_per_block: int,
    block_tokens: int,
    max_running: int,
    max_context: int,
) -> int:
    """How many blocks to allocate: what fits, but no more than could ever be in use at once."""
    num_fitting = kv_cache_memory_bytes // bytes_per_block
    if num_fitting < 1:
        limit = f"at least {bytes_per_block}, the bytes of one block of {block_tokens} tokens"
        raise invalid_field("kv_cache_memory_bytes", kv_cache_memory_bytes, limit)
    num_useful = max_running * -(-max_context // block_tokens)
    return min(num_fitting, num_useful)

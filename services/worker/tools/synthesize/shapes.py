"""The sizes of models that can be asked for by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """A Llama; sizes in elements."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    max_context: int
    rope_theta: float = 100_000.0
    rms_norm_eps: float = 1e-5
    tied: bool = True  # the embeddings are the head, too
    dtype: Literal["BF16", "F16"] = "BF16"  # of what is not quantised, as safetensors calls it

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        return self.hidden_size // self.num_heads


def _llama_2(
    hidden_size: int, intermediate_size: int, num_layers: int, num_heads: int, num_kv_heads: int
) -> ModelShape:
    """As published: https://arxiv.org/abs/2307.09288."""
    return ModelShape(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        vocab_size=32_000,
        max_context=4096,
        rope_theta=10_000.0,
        tied=False,
        dtype="F16",
    )


SHAPES = {
    "llama-2-7b": _llama_2(4096, 11_008, 32, 32, 32),
    "llama-2-13b": _llama_2(5120, 13_824, 40, 40, 40),
    "llama-2-70b": _llama_2(8192, 28_672, 80, 64, 8),
    # That of the default model, SmolLM2-135M: 135 million weights.
    "default": ModelShape(
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        vocab_size=49_152,
        max_context=8192,
    ),
    # 40 million weights: a model whose work outweighs the server's, and that two cores can run.
    "small": ModelShape(
        hidden_size=512,
        intermediate_size=1408,
        num_layers=12,
        num_heads=8,
        num_kv_heads=4,
        vocab_size=4096,
        max_context=2048,
    ),
    # Half a million weights, for tests.
    "tiny": ModelShape(
        hidden_size=128,
        intermediate_size=256,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=1024,
        max_context=1024,
    ),
}

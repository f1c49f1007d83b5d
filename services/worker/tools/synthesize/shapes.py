"""The sizes of models that can be asked for by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """A Llama with tied embeddings; sizes in elements."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    max_context: int
    rope_theta: float = 100_000.0
    rms_norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        return self.hidden_size // self.num_heads


SHAPES = {
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

"""Qwen 3 (model_type "qwen3"): Llama with norms of each query and key head, before they are turned,
and layers that may see a window of the latest tokens only.
"""

from __future__ import annotations

from services.worker.layers.attention import PagedAttention
from services.worker.layers.norm import HeadNorm
from services.worker.layers.parts import Parts
from services.worker.model_config import ModelConfig, ModelFiles
from services.worker.models import llama
from services.worker.models.llama import ATTENTION_MATRICES, PLACEMENT
from services.worker.models.qwen2 import layer_windows

ARCHITECTURE = "Qwen3ForCausalLM"


def read_config(files: ModelFiles) -> ModelConfig:
    """attention_bias, the keys of layer_windows, and heads of 128 where head_dim is left out."""
    biases = ATTENTION_MATRICES if files.config.flag("attention_bias") else frozenset()
    return ModelConfig.of(files, biases=biases, windows=layer_windows(files), default_head_dim=128)


class SelfAttention(llama.SelfAttention):
    """x [T, hidden] -> [T, hidden]."""

    def __init__(self, parts: Parts, name: str, layer: int) -> None:
        super().__init__(parts, name, layer)
        self.attention = PagedAttention(
            parts,
            name,
            layer,
            query_norm=HeadNorm(parts, f"{name}.q_norm"),
            key_norm=HeadNorm(parts, f"{name}.k_norm"),
        )


class Decoder(llama.Decoder):
    """See llama.Decoder."""

    attention = SelfAttention


__all__ = ["ARCHITECTURE", "PLACEMENT", "Decoder", "read_config"]

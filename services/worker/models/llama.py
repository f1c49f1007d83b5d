"""Llama (model_type "llama"): Llama 1 to 3, SmolLM2 and their like; the network that others vary.

Every model file has the same four names: ARCHITECTURE, what config.json calls it; `read_config`,
what its keys mean; PLACEMENT, how its matrices are dealt out to ranks; and `Decoder`, the network
from token ids to logits.
"""

from __future__ import annotations

import torch

from services.worker.layers.attention import PagedAttention, StepContext
from services.worker.layers.embedding import Embedding, Head
from services.worker.layers.fusion import LayerStack, Operations
from services.worker.layers.linear import GatedLinear, Linear
from services.worker.layers.norm import RMSNorm
from services.worker.layers.parts import Parts
from services.worker.layers.rotary import RotaryTable
from services.worker.model_config import ModelConfig, ModelFiles
from services.worker.placement import DECODER_PLACEMENT

ARCHITECTURE = "LlamaForCausalLM"

ATTENTION_MATRICES = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
MLP_MATRICES = frozenset({"gate_proj", "up_proj", "down_proj"})

PLACEMENT = DECODER_PLACEMENT


def read_config(files: ModelFiles) -> ModelConfig:
    """Two keys of its own: attention_bias and mlp_bias."""
    biases: frozenset[str] = frozenset()
    if files.config.flag("attention_bias"):
        biases |= ATTENTION_MATRICES
    if files.config.flag("mlp_bias"):
        biases |= MLP_MATRICES
    return ModelConfig.of(files, biases=biases)


class SelfAttention:
    """x [T, hidden] -> [T, hidden]."""

    def __init__(self, parts: Parts, name: str, layer: int) -> None:
        config = parts.config
        width, kv_width = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
        self.qkv_proj = Linear(
            parts,
            [f"{name}.{part}_proj" for part in "qkv"],
            rows=[width, kv_width, kv_width],
            columns=config.hidden_size,
            unit=config.head_dim,
        )
        self.attention = PagedAttention(parts, name, layer)
        self.o_proj = Linear(
            parts,
            [f"{name}.o_proj"],
            rows=[config.hidden_size],
            columns=width,
            unit=config.head_dim,
        )

    def __call__(self, x: torch.Tensor, step: StepContext) -> torch.Tensor:
        return self.o_proj(self.attention(self.qkv_proj(x), step))


class MLP:
    """x [T, hidden] -> [T, hidden]: down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, parts: Parts, name: str) -> None:
        config = parts.config
        self.gate_up_proj = GatedLinear(
            parts,
            [f"{name}.gate_proj", f"{name}.up_proj"],
            rows=[config.intermediate_size] * 2,
            columns=config.hidden_size,
        )
        self.down_proj = Linear(
            parts,
            [f"{name}.down_proj"],
            rows=[config.hidden_size],
            columns=config.intermediate_size,
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.gate_up_proj(x))


class DecoderLayer:
    """Adds attention and MLP to the residual stream [T, hidden] float32, in place."""

    def __init__(self, parts: Parts, index: int, attention: type[SelfAttention]) -> None:
        name = f"model.layers.{index}"
        self.input_norm = RMSNorm(parts, f"{name}.input_layernorm")
        self.self_attn = attention(parts, f"{name}.self_attn", index)
        self.post_attention_norm = RMSNorm(parts, f"{name}.post_attention_layernorm")
        self.mlp = MLP(parts, f"{name}.mlp")
        self.operations = Operations(
            attention_norm=self.input_norm,
            qkv=self.self_attn.qkv_proj,
            attention=self.self_attn.attention,
            out=self.self_attn.o_proj,
            mlp_norm=self.post_attention_norm,
            gate_up=self.mlp.gate_up_proj,
            down=self.mlp.down_proj,
        )

    def __call__(self, hidden: torch.Tensor, step: StepContext) -> None:
        hidden += self.self_attn(self.input_norm(hidden), step)
        hidden += self.mlp(self.post_attention_norm(hidden))


class Decoder:
    """Token ids to hidden states; `lm_head` makes logits of them."""

    attention = SelfAttention  # what an architecture may replace

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        self.embed_tokens = Embedding(parts, "model.embed_tokens")
        self.rotary = RotaryTable(config, parts.kernels.device)
        self.layers = LayerStack(
            parts,
            [DecoderLayer(parts, index, self.attention) for index in range(config.num_layers)],
        )
        self.norm = RMSNorm(parts, "model.norm")
        self.lm_head = Head(parts, "lm_head", tied_to=self.embed_tokens)

    def __call__(
        self, token_ids: torch.Tensor, step: StepContext, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """token_ids [T], logit_rows [rows], both padded: [rows, hidden] in dtype."""
        hidden = self.embed_tokens(token_ids)
        self.layers(hidden, step)
        return self.norm(hidden.index_select(0, logit_rows))

"""GGUF -> the tensors of an FP8 checkpoint in Friendli's dialect.

Linear layers: e4m3 bits stored as I8, `weight_scale` and `in_scale` F32 without dimensions, one
value for {q, k, v}, for {gate, up}, and for o and down each. Embeddings (tied) and norms: bf16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from services.worker.tools.prepare.calibrate import (
    CALIBRATION_PROMPTS,
    Array,
    Prompts,
    Shape,
    run_layer,
)
from services.worker.tools.prepare.gguf import FloatArray, Gguf
from services.worker.tools.prepare.progress import OnProgress, Progress
from services.worker.tools.prepare.rounding import E4M3_MAX, bf16_bits, bf16_values, e4m3_bits
from services.worker.tools.prepare.weight_scale import best_weight_scale

Tensors = dict[str, npt.NDArray[Any]]  # int8 = e4m3 bits, uint16 = bf16 bits, float32 = scales

# Members of a group share their scales, so that an engine fuses them without rounding again.
SCALE_GROUPS = {
    "q": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_NORMS = ("input_layernorm", "post_attention_layernorm")


def convert(gguf: Gguf, tokenizer: Tokenizer, on_progress: OnProgress) -> Tensors:
    """All tensors of the checkpoint, by name."""
    shape = model_shape(gguf.metadata)
    num_layers: int = gguf.metadata["llama.block_count"]
    embeddings = bf16_bits(gguf.tensor("token_embd.weight"))
    tensors: Tensors = {
        "model.embed_tokens.weight": embeddings,
        "model.norm.weight": bf16_bits(gguf.tensor("output_norm.weight")),
    }
    prompts = _embed(tokenizer, embeddings)
    for layer in range(num_layers):
        on_progress(Progress(step="converting to FP8", done=layer, total=num_layers, unit="layers"))
        weights = _layer_weights(gguf, layer, shape)
        prompts, inputs = run_layer(weights, prompts, shape)
        for name, tensor in _quantised_layer(weights, inputs).items():
            tensors[f"model.layers.{layer}.{name}"] = tensor
    on_progress(
        Progress(step="converting to FP8", done=num_layers, total=num_layers, unit="layers")
    )
    return tensors


def unquantised(gguf: Gguf, on_progress: OnProgress) -> Tensors:
    """The same checkpoint in bf16: what the FP8 one is compared with."""
    shape = model_shape(gguf.metadata)
    num_layers: int = gguf.metadata["llama.block_count"]
    tensors: Tensors = {
        "model.embed_tokens.weight": bf16_bits(gguf.tensor("token_embd.weight")),
        "model.norm.weight": bf16_bits(gguf.tensor("output_norm.weight")),
    }
    if "output.weight" in gguf.names:  # else the embeddings are the head, too
        tensors["lm_head.weight"] = bf16_bits(gguf.tensor("output.weight"))
    for layer in range(num_layers):
        on_progress(
            Progress(step="converting to bf16", done=layer + 1, total=num_layers, unit="layers")
        )
        for name, tensor in _layer_weights(gguf, layer, shape).items():
            tensors[f"model.layers.{layer}.{name}"] = bf16_bits(tensor)
    return tensors


def model_shape(metadata: Mapping[str, Any]) -> Shape:
    """What GGUF's metadata says about heads, positions and norms."""
    num_heads = metadata["llama.attention.head_count"]
    return Shape(
        num_heads=num_heads,
        num_kv_heads=metadata["llama.attention.head_count_kv"],
        head_size=metadata["llama.embedding_length"] // num_heads,
        rope_theta=metadata["llama.rope.freq_base"],
        # Stored as float32 (9.99999975e-06): the decimal that was meant is 1e-05.
        norm_epsilon=float(str(np.float32(metadata["llama.attention.layer_norm_rms_epsilon"]))),
    )


def unpermuted(weight: FloatArray, num_heads: int) -> FloatArray:
    """Undoes llama.cpp's order of q's and k's rows.

    llama.cpp turns neighbours (2j, 2j + 1) of a head, this checkpoint's layout halves (j, j +
    size / 2). Without this nothing fails and the model talks nonsense.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def _embed(tokenizer: Tokenizer, embeddings: npt.NDArray[np.uint16]) -> Prompts:
    """No BOS is put first: the chat format brings its own."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(CALIBRATION_PROMPTS))]
    rows = np.concatenate([embeddings[prompt] for prompt in ids])
    hidden = bf16_values(rows).astype(np.float64)
    return Prompts(hidden=hidden, lengths=[len(prompt) for prompt in ids])


def _layer_weights(gguf: Gguf, layer: int, shape: Shape) -> dict[str, FloatArray]:
    weights = {
        f"{name}.weight": gguf.tensor(f"blk.{layer}.{gguf_name}.weight")
        for name, gguf_name in _GGUF_NAMES.items()
    }
    for name, num_heads in (("q", shape.num_heads), ("k", shape.num_kv_heads)):
        key = f"self_attn.{name}_proj.weight"
        weights[key] = unpermuted(weights[key], num_heads)
    return weights


def _quantised_layer(weights: Mapping[str, FloatArray], inputs: Mapping[str, Array]) -> Tensors:
    tensors: Tensors = {f"{norm}.weight": bf16_bits(weights[f"{norm}.weight"]) for norm in _NORMS}
    for group, members in SCALE_GROUPS.items():
        rows = inputs[group].astype(np.float32)
        stacked = np.concatenate([weights[f"{member}.weight"] for member in members])
        weight_scale = best_weight_scale(stacked, rows)
        in_scale = np.abs(rows).max() / np.float32(E4M3_MAX)
        for member in members:
            tensors[f"{member}.weight"] = e4m3_bits(weights[f"{member}.weight"] / weight_scale)
            tensors[f"{member}.weight_scale"] = np.array(weight_scale, np.float32)
            tensors[f"{member}.in_scale"] = np.array(in_scale, np.float32)
    return tensors

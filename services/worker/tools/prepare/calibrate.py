"""The inputs of each linear layer, over a few prompts.

One layer at a time, in float64: the inputs, once rounded to float32, are the same on every machine,
whatever its instruction set and number of threads; and no more than one layer is expanded.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Varied on purpose: chat, code, numbers, a list, another language, plain prose. The first token of
# a prompt causes the largest values of this model, so even one prompt finds most of them.
CALIBRATION_PROMPTS = (
    (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\nThe capital of France is Paris. It lies on the river Seine, in "
        "the north of the country.<|im_end|>\n"
    ),
    (
        "<|im_start|>system\nYou are a careful programmer.<|im_end|>\n<|im_start|>user\nWrite "
        "a Python function that says whether a number is prime.<|im_end|>\n"
        "<|im_start|>assistant\n```python\ndef is_prime(n: int) -> bool:\n    if n < "
        "2:\n        return False\n    for d in range(2, int(n ** 0.5) + 1):\n        if n % d "
        "== 0:\n            return False\n    return True\n```<|im_end|>\n"
    ),
    (
        "<|im_start|>user\nA train leaves at 14:35 and travels 240 km at 96 km/h. When does it "
        "arrive?<|im_end|>\n<|im_start|>assistant\n240 / 96 = 2.5, so the journey takes 2 "
        "hours and 30 minutes. 14:35 plus 2:30 is 17:05. The train arrives at "
        "17:05.<|im_end|>\n"
    ),
    (
        "<|im_start|>user\nGive me three tips for better sleep.<|im_end|>\n"
        "<|im_start|>assistant\n1. Go to bed at the same time every day.\n2. Avoid caffeine in "
        "the afternoon.\n3. Keep the room dark, quiet and cool.<|im_end|>\n"
    ),
    (
        "Le petit chat dort sur la table. Die Katze schläft unter dem Tisch. El gato está en "
        "el jardín; «¿Dónde está?», preguntó — nadie respondió. 東京は日本の首都です。 €19.99, "
        "25 °C, ½ cup, x² + y² = r²."
    ),
    (
        "The old lighthouse stood at the end of the pier, where the wind never rested. Every "
        "evening the keeper climbed the 212 steps, lit the lamp, and wrote one line in the "
        "log: the weather, the ships, and whether anyone had waved. Most days nobody had. In "
        "the winter of 1911 the sea froze for the first time in living memory, and the ships "
        "stayed away until March."
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a forward pass must know beside the weights."""

    num_heads: int
    num_kv_heads: int
    head_size: int
    rope_theta: float
    norm_epsilon: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """The tokens of all prompts, one after the other: N rows; prompt i has `lengths[i]` of them."""

    hidden: Array  # [N, hidden]
    lengths: Sequence[int]


def run_layer(
    weights: Mapping[str, npt.NDArray[np.float32]], prompts: Prompts, shape: Shape
) -> tuple[Prompts, dict[str, Array]]:
    """One decoder layer; also the inputs [N, in] of q, o, gate and down.

    `weights` are named as in a checkpoint, from `self_attn.q_proj.weight` on, and [out, in]. q, k
    and v share their input, and so do gate and up.
    """

    def linear(name: str, rows: Array) -> Array:
        return rows @ weights[f"{name}.weight"].astype(np.float64).T

    def norm(name: str, rows: Array) -> Array:
        scale = np.sqrt(np.mean(rows * rows, axis=1, keepdims=True) + shape.norm_epsilon)
        normed: Array = rows / scale * weights[f"{name}.weight"]
        return normed

    attention_input = norm("input_layernorm", prompts.hidden)
    q, k, v = (linear(f"self_attn.{name}_proj", attention_input) for name in "qkv")
    attended = _attend(q, k, v, prompts.lengths, shape)
    hidden = prompts.hidden + linear("self_attn.o_proj", attended)

    mlp_input = norm("post_attention_layernorm", hidden)
    gate, up = linear("mlp.gate_proj", mlp_input), linear("mlp.up_proj", mlp_input)
    gated = gate * (0.5 + 0.5 * np.tanh(gate / 2)) * up  # SiLU, written so that nothing overflows
    hidden = hidden + linear("mlp.down_proj", gated)

    inputs = {"q": attention_input, "o": attended, "gate": mlp_input, "down": gated}
    return Prompts(hidden=hidden, lengths=prompts.lengths), inputs


def _attend(q: Array, k: Array, v: Array, lengths: Sequence[int], shape: Shape) -> Array:
    """Causal attention within each prompt; rows of q are [heads * size], of k and v [kv * size]."""
    starts = np.cumsum([0, *lengths])
    rows = [slice(start, end) for start, end in itertools.pairwise(starts)]
    return np.concatenate([_attend_prompt(q[r], k[r], v[r], shape) for r in rows])


def _attend_prompt(q: Array, k: Array, v: Array, shape: Shape) -> Array:
    length = len(q)
    heads = _rotate(_split_heads(q, shape.num_heads), shape.rope_theta)  # [heads, length, size]
    keys = _rotate(_split_heads(k, shape.num_kv_heads), shape.rope_theta)
    queries_per_kv = shape.num_heads // shape.num_kv_heads
    keys = np.repeat(keys, queries_per_kv, axis=0)
    values = np.repeat(_split_heads(v, shape.num_kv_heads), queries_per_kv, axis=0)
    scores = heads @ keys.transpose(0, 2, 1) / np.sqrt(shape.head_size)
    scores += np.triu(np.full((length, length), -np.inf), 1)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    attended: Array = weights @ values  # [heads, length, size]
    return attended.transpose(1, 0, 2).reshape(length, -1)


def _split_heads(rows: Array, num_heads: int) -> Array:
    return rows.reshape(len(rows), num_heads, -1).transpose(1, 0, 2)


def _rotate(heads: Array, theta: float) -> Array:
    """Rotary positions, halves split: (j, j + size / 2) turn by position * theta^(-2j / size)."""
    _, length, size = heads.shape
    frequencies = theta ** (-np.arange(0, size, 2) / size)
    angles = np.arange(length)[:, None] * frequencies  # [length, size / 2]
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = heads[..., : size // 2], heads[..., size // 2 :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

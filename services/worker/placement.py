"""Which part of a matrix a rank holds. Said beside a model, never inside it.

Of a matrix [out, in]: `column` deals out its outputs, so that each rank computes some of them;
`row` deals out its inputs, so that each rank computes a summand of all outputs, and the ranks must
be summed (all_reduce). `whole` gives every rank everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Placement = Literal["column", "row", "whole"]

# Of the decoders that are named as Llama's is; what is not named here is whole.
DECODER_PLACEMENT: Mapping[str, Placement] = {
    "embed_tokens": "column",
    "q_proj": "column",
    "k_proj": "column",
    "v_proj": "column",
    "o_proj": "row",
    "gate_proj": "column",
    "up_proj": "column",
    "down_proj": "row",
    "lm_head": "column",
}

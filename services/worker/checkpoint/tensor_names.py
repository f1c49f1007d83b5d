"""What belongs to a matrix or to an attention, under all the names that writers have for it.

Without torch: a loader reads these tensors, `octavo inspect` only looks for them.
"""

from __future__ import annotations

WEIGHT_SCALES = ("weight_scale", "weight_scale_inv")
INPUT_SCALES = ("input_scale", "in_scale", "act_scale")


def kv_scale_names(attention: str, letter: str) -> tuple[str, ...]:
    """The scale of an attention's keys ("k") or values ("v"), the first that is stored counts.

    <attention>.k_scale, .v_scale                      AutoFP8, compressed-tensors
    <attention>.k_proj.k_scale, .v_proj.v_scale        ModelOpt
    <attention>.k_proj.output_scale, .v_proj.output_scale   compressed-tensors before that
    <attention>.kv_scale                               AutoFP8 before that: both
    """
    kinds = (
        f"{letter}_scale",
        f"{letter}_proj.{letter}_scale",
        f"{letter}_proj.output_scale",
        "kv_scale",
    )
    return tuple(f"{attention}.{kind}" for kind in kinds)

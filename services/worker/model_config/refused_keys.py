"""Keys of config.json that some architectures compute with: refused in all others where they would
change the answer, because passing them over gives wrong numbers in silence.

pretraining_tp is none of them: older transformers cut products into so many slices and joined the
results, which is the same sum but for rounding, and newer ones do not look at it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from services.worker.model_config.json_file import JsonFile

_OFF, _ONE = (0,), (1,)

# The values that change nothing; null never does.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # Gemma, Grok
    "final_logit_softcapping": _OFF,
    "attn_logit_softcapping": _OFF,
    "embedding_multiplier_scale": _ONE,
    "output_multiplier_scale": _ONE,
    # OLMo, DBRX
    "clip_qkv": _OFF,
    "qkv_clip": _OFF,
    # Cohere, Granite, MiniCPM, Falcon-H1
    "logit_scale": _ONE,
    "logits_scaling": _ONE,
    "lm_head_multiplier": _ONE,
    "embedding_multiplier": _ONE,
    "residual_multiplier": _ONE,
    "key_multiplier": _ONE,
    "attention_in_multiplier": _ONE,
    "attention_out_multiplier": _ONE,
    "mlp_multipliers": ([1, 1],),
    "scale_emb": _ONE,
    "scale_depth": (),
    "dim_model_base": (),
    # Llama 4, SmolLM3
    "no_rope_layers": ([],),
    "no_rope_layer_interval": _OFF,
    "attn_temperature_tuning": _OFF,
    "attention_chunk_size": _OFF,
    # GPT-NeoX, Falcon and their like
    "use_qk_norm": _OFF,
    "use_parallel_residual": _OFF,
    "parallel_attn": _OFF,
    "alibi": _OFF,
    "rope_interleave": _OFF,
    "rotary_pct": _ONE,
    "hidden_activation": ("silu",),
}


def check_refused_keys(config: JsonFile, *, head_dim: int, computed: Collection[str]) -> None:
    """Raises InvalidArgumentError, naming key, value and what would be neutral.

    computed: the keys that the architecture does compute with.
    """
    usual_scale = {"query_pre_attn_scalar": (head_dim,), "attention_multiplier": (head_dim**-0.5,)}
    for key, neutral in {**_NEUTRAL, **usual_scale}.items():
        value = config.values.get(key)
        if value is None or value in neutral or key in computed:
            continue
        allowed = " or ".join(["null", *map(str, neutral)])
        raise config.error(key, f"{allowed}: this architecture does not compute with it")

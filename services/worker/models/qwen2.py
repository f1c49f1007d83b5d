"""Qwen 2 and 2.5 (model_type "qwen2"): Llama with biases of queries, keys and values, and layers
that may see a window of the latest tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.worker.model_config import JsonFile, ModelConfig, ModelFiles
from services.worker.models.llama import PLACEMENT, Decoder

ARCHITECTURE = "Qwen2ForCausalLM"

_BIASES = frozenset({"q_proj", "k_proj", "v_proj"})  # always: no key says so
_FULL, _SLIDING = "full_attention", "sliding_attention"


def read_config(files: ModelFiles) -> ModelConfig:
    """Its own keys are those of layer_windows."""
    return ModelConfig.of(files, biases=_BIASES, windows=layer_windows(files.config))


def layer_windows(config: JsonFile) -> Sequence[int | None]:
    """The window of each layer: sliding_window in the layers that layer_types names, else in those
    from max_window_layers on, and nowhere unless use_sliding_window says so.
    """
    window = None
    if config.flag("use_sliding_window"):
        window = config.positive_or_none("sliding_window", default=4096)
    num_layers = config.positive("num_hidden_layers")
    types = config.values.get("layer_types")
    if types is None:
        first = config.count("max_window_layers", default=28)
        return [window if layer >= first else None for layer in range(num_layers)]
    known = {_FULL: None, _SLIDING: window} if window else {_FULL: None}
    if not isinstance(types, list) or len(types) != num_layers or not set(types) <= set(known):
        raise config.error("layer_types", f"{num_layers} names among {', '.join(known)}")
    return [known[kind] for kind in types]


__all__ = ["ARCHITECTURE", "PLACEMENT", "Decoder", "layer_windows", "read_config"]

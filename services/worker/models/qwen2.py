"""Qwen 2 and 2.5 (model_type "qwen2"): Llama with biases of queries, keys and values, and layers
that may see a window of the latest tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.worker.model_config import ModelConfig, ModelFiles
from services.worker.models.llama import PLACEMENT, Decoder

ARCHITECTURE = "Qwen2ForCausalLM"

_BIASES = frozenset({"q_proj", "k_proj", "v_proj"})  # always: no key says so
_FULL, _SLIDING = "full_attention", "sliding_attention"


def read_config(files: ModelFiles) -> ModelConfig:
    """Its own keys are those of layer_windows."""
    return ModelConfig.of(files, biases=_BIASES, windows=layer_windows(files))


def layer_windows(files: ModelFiles) -> Sequence[int | None]:
    """The window of each layer: sliding_window in the layers that layer_types names, else in those
    from max_window_layers on, and nowhere unless use_sliding_window says so.
    """
    config, num_layers, window = files.config, files.num_layers, None
    if config.flag("use_sliding_window"):
        window = config.positive_or_none("sliding_window", default=4096)
    types = config.values.get("layer_types")
    if types is None:
        first = config.count("max_window_layers", default=28)
        return [window if layer >= first else None for layer in range(num_layers)]
    names = [_FULL, _SLIDING] if window else [_FULL]
    if not isinstance(types, list) or [kind in names for kind in types] != [True] * num_layers:
        raise config.error("layer_types", f"{num_layers} names among {', '.join(names)}")
    return [window if kind == _SLIDING else None for kind in types]


__all__ = ["ARCHITECTURE", "PLACEMENT", "Decoder", "layer_windows", "read_config"]

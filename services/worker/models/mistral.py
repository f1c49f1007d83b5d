"""Mistral (model_type "mistral"): Llama whose tokens see a window of the latest tokens only."""

from __future__ import annotations

from services.worker.model_config import ModelConfig, ModelFiles
from services.worker.models.llama import PLACEMENT, Decoder

ARCHITECTURE = "MistralForCausalLM"


def read_config(files: ModelFiles) -> ModelConfig:
    """Its own key is sliding_window, for all layers: null for none, 4096 where it is left out."""
    if files.config.values.get("layer_types") is not None:
        raise files.config.error("layer_types", "absent: Mistral has one window for all layers")
    window = files.config.positive_or_none("sliding_window", default=4096)
    return ModelConfig.of(files, windows=[window] * files.num_layers)


__all__ = ["ARCHITECTURE", "PLACEMENT", "Decoder", "read_config"]

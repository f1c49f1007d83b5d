"""Which architectures are served: each is a file of models/, named as config.json's model_type.

Found without importing them, which would import torch (docs/adding-a-model.md).
"""

from __future__ import annotations

from pathlib import Path

from services.worker.model_config.json_file import JsonFile

_MODELS = Path(__file__).parents[1] / "models"
_DECLARATION = "\nARCHITECTURE = "  # what no other file of the folder has


def served_model_types() -> tuple[str, ...]:
    """Sorted."""
    files = sorted(_MODELS.glob("*.py"))
    return tuple(file.stem for file in files if _DECLARATION in file.read_text(encoding="utf-8"))


def read_model_type(config: JsonFile) -> str:
    """Raises InvalidArgumentError for an architecture that is not served."""
    model_type = config.values.get("model_type")
    if not isinstance(model_type, str) or model_type not in served_model_types():
        raise config.error("model_type", f"one of {list(served_model_types())}")
    return model_type

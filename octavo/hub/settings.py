"""The flags that name the one model of a process: a folder, or a name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from octavo.hub.fetch import fetch
from octavo.settings import ProcessSettings


class ModelSettings(ProcessSettings):
    """Of a process that serves one model."""

    model: Path | None = Field(
        None, description="Folder of the model: config.json, safetensors, tokenizer."
    )
    hf_model_name: str | None = Field(
        None, description="ORG/NAME on the hub instead of a folder; HF_TOKEN holds a token."
    )
    hf_revision: str | None = Field(
        None, description="Branch, tag or commit of --hf-model-name; its main branch by default."
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        check_one_model(self.model, self.hf_model_name, self.hf_revision)
        if self.model is None and self.hf_model_name is None:
            raise ValueError("--model or --hf-model-name is required")
        return self

    @property
    def folder(self) -> Path:
        """The folder of the model, once `with_folder` has put it there."""
        assert self.model is not None, "with_folder comes first"
        return self.model

    def with_folder(self) -> Self:
        """The same with the model's folder, downloaded where needed. Raises OctavoError."""
        if self.hf_model_name is None:
            return self
        return self.model_copy(update={"model": fetch(self.hf_model_name, self.hf_revision)})


def check_one_model(model: Path | None, name: str | None, revision: str | None) -> None:
    """Raises ValueError where both are given, or a revision without a name."""
    if model is not None and name is not None:
        raise ValueError("--model and --hf-model-name are both given; one of them is the model")
    if name is None and revision is not None:
        raise ValueError("--hf-revision is of --hf-model-name, which is not given")

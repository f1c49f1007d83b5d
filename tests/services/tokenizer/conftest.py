"""Tokenizers of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.backends.huggingface import HuggingFaceBackend
from tests.services.tokenizer import vocabularies


@pytest.fixture(scope="session", params=vocabularies.NAMES)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TokenizerBackend:
    """Each kind of tokenizer in turn."""
    return vocabularies.backend_named(request.param, tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="session")
def llama2(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceBackend:
    """A tokenizer.json with Llama 2's pipeline."""
    folder = vocabularies.save(
        vocabularies.llama2_tokenizer(),
        tmp_path_factory.mktemp("llama2"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    return vocabularies.huggingface(folder)


@pytest.fixture(scope="session")
def default_backend(default_model: Path) -> HuggingFaceBackend:
    """The default model's tokenizer."""
    return vocabularies.huggingface(default_model)

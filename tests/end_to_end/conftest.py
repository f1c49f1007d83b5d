"""The product around a tiny checkpoint and around the default model, started once each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.product import SLOWLY, Product


@pytest.fixture(scope="module")
def tiny(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product around a random model of 1 MB with a chat template; its text is noise."""
    product = Product(checkpoints / "chat-l0", tmp_path_factory.mktemp("tiny"), SLOWLY)
    product.start()
    yield product
    assert set(product.stop().values()) == {0}


@pytest.fixture(scope="package")
def real(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product around the default model, for all modules: it takes long to start."""
    product = Product(default_model, tmp_path_factory.mktemp("real"))
    product.start()
    yield product
    assert set(product.stop().values()) == {0}

"""A product with two tokenizers, whose parts are killed and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.product import SLOWLY, Product


@pytest.fixture(scope="package")
def product(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One for all faults: each test leaves it as healthy as it was."""
    folder = tmp_path_factory.mktemp("faults")
    product = Product(
        checkpoints / "chat-l0", folder, SLOWLY, "--max-running=128", num_tokenizers=2
    )
    product.start()
    yield product
    product.stop()

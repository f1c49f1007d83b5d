from __future__ import annotations

import numpy as np

from services.worker.tools.prepare.convert import unpermuted


def test_the_order_of_llama_cpp_is_undone() -> None:
    """The permutation as llama.cpp's converter writes it, over 2 heads of 6 rows."""
    original = np.arange(24, dtype=np.float32).reshape(12, 2)
    permuted = original.reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(12, 2)
    assert not np.array_equal(permuted, original)
    np.testing.assert_array_equal(unpermuted(permuted, 2), original)

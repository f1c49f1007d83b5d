"""The paged memory itself."""

from __future__ import annotations

import torch

from services.worker.kernels import KVCache


def test_blocks_are_copied_in_every_layer_and_all_are_read_first(device: torch.device) -> None:
    storage = torch.arange(2 * 2 * 3 * 5 * 4 * 2, device=device).view(2, 2, 3, 5, 4, 2)
    cache = KVCache(storage=storage.clone())
    cache.copy_blocks([1, 1, 3], [0, 3, 4])
    expected = storage[:, :, :, [1, 1, 2, 1, 3]]
    assert torch.equal(cache.storage, expected)

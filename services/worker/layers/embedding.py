"""Token ids to vectors, and vectors to the logits of every token."""

from __future__ import annotations

import torch

from services.worker.checkpoint.weights import Matrix
from services.worker.layers.parts import Parts


class Embedding:
    """ids [T] int64 -> [T, hidden] float32."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._kernels, self.name, config = parts.kernels, name, parts.config
        self.table = parts.weights.table(name, rows=config.vocab_size, columns=config.hidden_size)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return self._kernels.embedding(ids, self.table)


class Head:
    """x [rows, hidden] -> logits [rows, vocabulary] float32; a step may have no such row.

    Where the configuration ties the embeddings, the matrix is the embedding's table.
    """

    def __init__(self, parts: Parts, name: str, *, tied_to: Embedding) -> None:
        self._kernels, weights, config = parts.kernels, parts.weights, parts.config
        if config.tie_word_embeddings:
            weights.ignore_copy(name, tied_to.name)
            matrix: Matrix = tied_to.table
        else:
            matrix = weights.matrix(name, rows=config.vocab_size, columns=config.hidden_size)
        self._num_tokens = matrix.shape[0]
        self._packed = self._kernels.pack_head(matrix)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 0:
            return x.new_empty((0, self._num_tokens), dtype=torch.float32)
        return self._kernels.logits(x, self._packed)

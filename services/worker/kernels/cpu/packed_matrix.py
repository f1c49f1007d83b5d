"""A matrix in the layout of the kernels: the only copy of its weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from services.worker.fp8_matrix import BlockScale, Fp8Matrix
from services.worker.input_scheme import InputScheme
from services.worker.kernels.cpu.large_pages import Memory
from services.worker.kernels.cpu.library import BF16, E4M3, SILU_MUL, Library, Matrix

INPUT_GROUP = 4  # inputs that are read at once
_CHANNELS = 16  # outputs that are computed at once
_PIECE_ROWS = 1024  # packed at a time


class PackedMatrix:
    """[out, in] in e4m3 with its scales, or in bfloat16; and the bias [out] that it adds."""

    def __init__(
        self,
        library: Library,
        memory: Memory,
        weight: Fp8Matrix | torch.Tensor,
        bias: torch.Tensor | None,
        *,
        epilogue: int,
    ) -> None:
        """`epilogue`: STORE_BF16, or SILU_MUL where the outputs are gate and up."""
        self.num_outputs, self.num_inputs = weight.shape
        self.inputs: InputScheme | None = None  # how x is rounded before it is multiplied
        self.out_width = self.num_outputs // (2 if epilogue == SILU_MUL else 1)
        self._library, self._memory, self._epilogue = library, memory, epilogue
        if isinstance(weight, Fp8Matrix) and not _fits(weight.scale):
            weight = weight.expand(torch.bfloat16)
        self._scales: torch.Tensor | None = None
        self._block_scales: torch.Tensor | None = None
        block_inputs = 0
        if isinstance(weight, Fp8Matrix):
            self._kind = E4M3
            self._packed = self._pack(weight.values)
            if weight.scale.kind == "block":
                self._block_scales = self._blocks(weight.scale)
                block_inputs = weight.scale.block[1]
            else:
                self._scales = self._channels(weight.scale.of_rows(0, self.num_outputs))
        else:
            self._kind = BF16
            self._packed = self._pack(weight.to(torch.bfloat16))
        self._bias = None if bias is None else self._channels(bias)
        self.matrix = Matrix(
            packed=self._packed.data_ptr(),
            scales=_pointer(self._scales),
            block_scales=_pointer(self._block_scales),
            bias=_pointer(self._bias),
            outputs=self.num_outputs,
            inputs=self.num_inputs,
            block_inputs=block_inputs,
            weight_kind=self._kind,
            epilogue=epilogue,
        )

    @property
    def num_bytes(self) -> int:
        """What the weights and their scales take."""
        held = (self._packed, self._bias, self._scales, self._block_scales)
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """x [T, in] with its inputs padded to what is read at once."""
        missing = -self.num_inputs % INPUT_GROUP
        return F.pad(x, (0, missing)) if missing else x

    def _pack(self, weight: torch.Tensor) -> torch.Tensor:
        shape = (self.num_outputs, self.num_inputs, self._kind, self._epilogue)
        packed = self._memory.take(self._library.packed_bytes(*shape))  # 0 where outputs are padded
        for start in range(0, self.num_outputs, _PIECE_ROWS):
            rows = weight[start : start + _PIECE_ROWS].contiguous()
            self._library.pack_rows(
                packed.data_ptr(), rows.data_ptr(), start, rows.shape[0], *shape
            )
        return packed

    def _channels(self, values: torch.Tensor) -> torch.Tensor:
        """A value of each output (or one of all), in the order of the packed channels."""
        values = values.float().flatten().expand(self.num_outputs).contiguous()
        count = self._library.packed_channels(self.num_outputs, self._epilogue)
        packed = torch.empty(count, dtype=torch.float32)
        self._library.pack_channels(
            packed.data_ptr(), values.data_ptr(), self.num_outputs, self._epilogue
        )
        return packed

    def _blocks(self, scale: BlockScale) -> torch.Tensor:
        """[blocks of inputs, blocks of 16 packed channels]."""
        rows = scale.values.repeat_interleave(scale.block[0], 0)[: self.num_outputs]
        columns = [self._channels(column)[::_CHANNELS] for column in rows.unbind(1)]
        return torch.stack(columns).contiguous()


def _fits(scale: BlockScale) -> bool:
    """Whether blocks end where the kernels may change their scale."""
    if scale.kind != "block":
        return True
    return scale.block[0] % _CHANNELS == 0 and scale.block[1] % INPUT_GROUP == 0


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()

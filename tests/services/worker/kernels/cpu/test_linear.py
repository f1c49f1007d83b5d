"""Products with packed matrices: against float64, and bit for bit however rows are tiled."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from services.worker.fp8_matrix import BlockScale, Fp8Matrix, to_e4m3
from services.worker.input_scheme import InputScheme
from services.worker.kernels.cpu.kernels import CpuKernels
from services.worker.kernels.cpu.library import Library
from services.worker.kernels.fp8_inputs import round_inputs

# Channels and inputs that fill panels, that leave part of one, and that are odd.
SHAPES = [(192, 576), (96, 64), (100, 30), (16, 4), (50, 1001), (208, 300), (2, 1)]
ROWS = [1, 2, 3, 4, 5, 7, 8, 9, 33, 70]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fp8(rows: int, columns: int, block: tuple[int, int], seed: int = 1) -> Fp8Matrix:
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    scale = BlockScale(
        values=randn(*grid, seed=seed).abs() + 0.01, block=block, shape=(rows, columns)
    )
    values = to_e4m3(randn(rows, columns, seed=seed + 1) * 20, 1.0)
    return Fp8Matrix(values=values, scale=scale, inputs=None)


def exact(weight: Fp8Matrix | torch.Tensor) -> torch.Tensor:
    """The matrix in float64."""
    if isinstance(weight, torch.Tensor):
        return weight.double()
    return weight.values.double() * weight.scale.of_rows(0, weight.shape[0]).double()


def check(given: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    wanted = x.double() @ weight.T + bias.double()
    summing = 4e-6 * (x.double().abs() @ weight.abs().T)
    assert ((given.double() - wanted).abs() <= wanted.abs() * 2**-8 + summing + 1e-30).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["bfloat16", "tensor", "channel", "block", "ragged block"])
def test_products_are_summed_in_float32(
    kernels: CpuKernels, shape: tuple[int, int], kind: str
) -> None:
    blocks = {"tensor": shape, "channel": (1, shape[1]), "block": (128, 128)}
    blocks["ragged block"] = (24, 10)  # where no block of the kernels ends
    weight: Fp8Matrix | torch.Tensor = randn(*shape).bfloat16()
    if kind != "bfloat16":
        weight = fp8(*shape, blocks[kind])
    bias = randn(shape[0], seed=5)
    packed = kernels.pack_linear(weight, bias)
    true = exact(weight)
    if isinstance(weight, Fp8Matrix) and kind == "ragged block" and weight.scale.kind == "block":
        # Kept in bfloat16, each weight rounded once.
        true = weight.expand(torch.bfloat16).double()
    for rows in ROWS:
        x = randn(rows, shape[1], seed=rows).bfloat16()
        check(kernels.linear(x, packed), x, true, bias)


@pytest.mark.parametrize("shape", [(192, 576), (100, 30), (6, 5), (34, 8)], ids=str)
def test_a_gated_product_is_its_formula(kernels: CpuKernels, shape: tuple[int, int]) -> None:
    weight = fp8(*shape, (1, shape[1]))
    packed = kernels.pack_gated(weight)
    for rows in ROWS:
        x = (randn(rows, shape[1], seed=rows) / 100).bfloat16()
        gate, up = (x.double() @ exact(weight).T).chunk(2, -1)
        wanted = gate / (1 + (-gate).exp()) * up
        difference = (kernels.gated_linear(x, packed).double() - wanted).abs()
        assert (difference <= 2**-8 * wanted.abs() + 1e-4 * (gate * up).abs() + 1e-6).all()


@pytest.mark.parametrize("kind", ["bfloat16", "channel", "block"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_rows_bits_depend_on_nothing_else(
    kernels: CpuKernels, alone: CpuKernels, kind: str, gated: bool
) -> None:
    shape = (768, 1000)
    weight: Fp8Matrix | torch.Tensor = randn(*shape).bfloat16()
    if kind != "bfloat16":
        weight = fp8(*shape, (1, 1000) if kind == "channel" else (128, 128))
    both = [
        (each, each.pack_gated(weight) if gated else each.pack_linear(weight))
        for each in (kernels, alone)
    ]
    x = randn(70, shape[1]).bfloat16()
    together = kernels.linear(x, both[0][1])
    for each, packed in both:
        for rows in ROWS:
            for start in (0, 70 - rows):
                part = each.linear(x[start : start + rows], packed)
                assert torch.equal(part, together[start : start + rows])


def test_every_code_is_its_value(kernels: CpuKernels) -> None:
    codes = torch.tensor([code for code in range(256) if code & 0x7F != 0x7F], dtype=torch.uint8)
    values = codes.view(torch.float8_e4m3fn)[:, None].repeat(1, 4)
    scale = BlockScale(values=torch.ones(1, 1), block=(254, 4), shape=(254, 4))
    packed = kernels.pack_linear(Fp8Matrix(values=values, scale=scale, inputs=None))
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).bfloat16()
    assert torch.equal(kernels.linear(x, packed)[0].float(), values[:, 0].float())


def test_weights_take_a_byte_each(kernels: CpuKernels) -> None:
    shape = (960, 576)
    packed = kernels.pack_linear(fp8(*shape, (1, 576)))
    assert packed.num_bytes <= 1.05 * math.prod(shape)


def test_what_is_not_finite_stays_in_its_row(kernels: CpuKernels) -> None:
    packed = kernels.pack_linear(fp8(192, 64, (192, 64)))
    x = randn(9, 64).bfloat16()
    clean = kernels.linear(x, packed)
    x[4, 3], x[6, 0] = float("nan"), float("inf")
    dirty = kernels.linear(x, packed)
    for row in range(9):
        assert torch.equal(dirty[row], clean[row]) == (row not in (4, 6))
    assert not dirty[4].isfinite().any()


@pytest.mark.parametrize("kind", ["bfloat16", "channel"])
def test_logits_are_not_rounded(kernels: CpuKernels, kind: str) -> None:
    weight: Fp8Matrix | torch.Tensor = randn(500, 72).bfloat16()
    if kind == "channel":
        weight = fp8(500, 72, (1, 72))
    head = kernels.pack_head(weight)
    for rows in ROWS:
        x = randn(rows, 72, seed=rows).bfloat16()
        given, wanted = kernels.logits(x, head), x.double() @ exact(weight).T
        summing = 4e-6 * (x.double().abs() @ exact(weight).abs().T)
        assert given.dtype == torch.float32
        assert ((given.double() - wanted).abs() <= summing).all()


@pytest.mark.parametrize(
    "scheme",
    [InputScheme(static_scale=0.002), InputScheme(), InputScheme(group=128)],
    ids=["static", "token", "group"],
)
@pytest.mark.parametrize("gated", [False, True])
def test_inputs_are_rounded_as_the_matrix_declares(
    library: Library, kernels: CpuKernels, scheme: InputScheme, gated: bool
) -> None:
    rounding = CpuKernels(library, 2, fp8_activations=True)
    weight = replace(fp8(192, 300, (1, 300)), inputs=scheme)
    packed, plain = (
        each.pack_gated(weight) if gated else each.pack_linear(weight)
        for each in (rounding, kernels)
    )
    x = randn(33, 300).bfloat16()
    together = rounding.linear(x, packed)
    assert torch.equal(together, kernels.linear(round_inputs(x, scheme), plain))
    assert not torch.equal(together, kernels.linear(x, plain))
    for rows in (1, 5, 9):
        assert torch.equal(rounding.linear(x[:rows], packed), together[:rows])

"""What a model takes of each device, and how many tokens of KV cache fit beside it.

    weights of a rank = what it holds whole + its part of every matrix that is dealt out
    bytes of a token  = 2 (key, value) x layers x KV heads of a rank x head_dim x bytes
    KV tokens         = (USABLE_PART x memory - WORKSPACE_BYTES - weights) / bytes of a token

All of it from config.json and the headers of the safetensors files: no tensor is read and torch is
not imported. Where ranks hold unequal parts, the numbers are those of the one that holds most.

    config = ModelConfig.of(ModelFiles.read(folder))  # models.read_config also checks it
    plan = plan_memory(config, read_stored_tensors(folder), num_devices=2, device_bytes=80 * GIB)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.worker.held_weights import HeldForm, held_tensors
from services.worker.model_config import ModelConfig
from services.worker.placement import DECODER_PLACEMENT, Placement
from services.worker.stored_tensors import StoredTensor

GIB = 2**30
USABLE_PART = 0.9  # of a device; the rest is the driver's, the libraries' and what fragments
WORKSPACE_BYTES = 2 * GIB  # for activations, on each device

_QUERY_HEADS, _KV_HEADS = frozenset({"q_proj", "o_proj"}), frozenset({"k_proj", "v_proj"})


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """One of `num_devices` equal devices: bytes of the weights, and what is left for the cache."""

    num_devices: int
    weight_bytes: int
    kv_bytes_per_token: int
    kv_cache_bytes: int  # below 0: so much is missing

    @property
    def fits(self) -> bool:
        """Whether weights and a token fit."""
        return self.kv_cache_bytes >= self.kv_bytes_per_token

    @property
    def kv_tokens(self) -> int:
        """Tokens that all requests together may hold."""
        return max(0, self.kv_cache_bytes // self.kv_bytes_per_token)


def plan_memory(
    config: ModelConfig,
    tensors: Iterable[StoredTensor],
    *,
    num_devices: int,
    device_bytes: int,
    form: HeldForm | None = None,
    kv_element_bytes: int = 2,
    placement: Mapping[str, Placement] = DECODER_PLACEMENT,
) -> MemoryPlan:
    """The plan for devices of `device_bytes` each; a KV cache in FP8 has elements of 1 byte."""
    weights = rank_weight_bytes(
        config, tensors, num_devices=num_devices, form=form, placement=placement
    )
    return MemoryPlan(
        num_devices=num_devices,
        weight_bytes=weights,
        kv_bytes_per_token=kv_bytes_per_token(
            config, num_devices=num_devices, element_bytes=kv_element_bytes
        ),
        kv_cache_bytes=int(device_bytes * USABLE_PART) - WORKSPACE_BYTES - weights,
    )


def kv_bytes_per_token(config: ModelConfig, *, num_devices: int, element_bytes: int) -> int:
    """What a token's keys and values take on one rank; past one KV head a rank, heads repeat."""
    kv_heads = -(-config.num_kv_heads // num_devices)
    return 2 * config.num_layers * kv_heads * config.head_dim * element_bytes


def rank_weight_bytes(
    config: ModelConfig,
    tensors: Iterable[StoredTensor],
    *,
    num_devices: int,
    form: HeldForm | None = None,
    placement: Mapping[str, Placement] = DECODER_PLACEMENT,
) -> int:
    """What the weights take on the rank that holds most of them; `form` None: as stored."""
    return sum(
        _rank_part(config, tensor, num_bytes, num_devices, placement)
        for tensor, num_bytes in held_tensors(config, tensors, form)
    )


def _rank_part(
    config: ModelConfig,
    tensor: StoredTensor,
    num_bytes: int,
    num_devices: int,
    placement: Mapping[str, Placement],
) -> int:
    """`layers.3.mlp.up_proj.weight_scale` is dealt out as `up_proj` is, where it has sizes."""
    matrix = tensor.name.rpartition(".")[0].rpartition(".")[2]
    how = placement.get(matrix, "whole")
    dim = 0 if how == "column" else 1
    if how == "whole" or len(tensor.shape) <= dim or tensor.shape[dim] <= 1:
        return num_bytes
    units = _num_units(config, matrix, tensor.shape[dim], num_devices)
    return num_bytes * -(-units // num_devices) // units


def _num_units(config: ModelConfig, matrix: str, size: int, num_devices: int) -> int:
    """How many pieces are dealt out that stay whole: heads with their KV head, as long as each rank
    has one of its own.
    """
    if matrix in _KV_HEADS or (matrix in _QUERY_HEADS and num_devices <= config.num_kv_heads):
        return config.num_kv_heads
    return config.num_heads if matrix in _QUERY_HEADS else size

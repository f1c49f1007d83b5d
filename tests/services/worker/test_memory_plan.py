"""Memory plans of the three sizes of Llama 2, and of what does not divide."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from services.worker.memory_plan import (
    GIB,
    kv_bytes_per_token,
    plan_memory,
    rank_weight_bytes,
)
from services.worker.model_config import ModelConfig, ModelFiles
from services.worker.models import read_config
from tests.services.worker import llama2, tiny_llama


def config_of(folder: Path, size: str) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(llama2.config_json(size)))
    return read_config(folder)


@pytest.mark.parametrize(
    ("size", "parameters", "fp8_bytes", "kv_bytes"),
    [
        ("7b", 6_738_415_616, 7.00e9, 512 * 1024),
        ("13b", 13_015_864_320, 13.34e9, 800 * 1024),
        ("70b", 68_976_648_192, 69_502_259_584, 320 * 1024),
    ],
)
def test_the_shapes_are_the_published_ones(
    tmp_path: Path, size: str, parameters: int, fp8_bytes: float, kv_bytes: int
) -> None:
    tensors = list(llama2.tensors(size))
    weights = [tensor for tensor in tensors if tensor.name.endswith(".weight")]
    assert sum(math.prod(tensor.shape) for tensor in weights) == parameters
    config = config_of(tmp_path, size)
    assert config.head_dim == 128
    assert (config.bos_id, config.eos_ids, config.max_context) == (1, (2,), 4096)
    whole = rank_weight_bytes(config, tensors, num_devices=1)
    assert whole == sum(tensor.num_bytes for tensor in tensors)
    assert whole == pytest.approx(fp8_bytes, rel=1e-3)
    assert kv_bytes_per_token(config, num_devices=1, element_bytes=2) == kv_bytes


GPU_80, GPU_48, H200 = 79.65, 47.5, 139.8  # GiB
# Thousands in bfloat16, worked out by hand from the published sizes.
SEVENTY_B_TOKENS = [
    (1, GPU_80, 16.2),
    (1, H200, 194),
    (2, GPU_80, 245),
    (2, GPU_48, 55),
    (2, H200, 599),
    (4, GPU_80, 701),
    (4, GPU_48, 322),
    (4, H200, 1410),
    (8, GPU_80, 1610),
    (8, GPU_48, 856),
    (8, H200, 3000),
]


@pytest.mark.parametrize(("num_devices", "gib", "thousands"), SEVENTY_B_TOKENS)
def test_the_plan_of_70b_is_the_one_by_hand(
    tmp_path: Path, num_devices: int, gib: float, thousands: float
) -> None:
    config, tensors = config_of(tmp_path, "70b"), list(llama2.tensors("70b"))
    device_bytes = int(gib * GIB)
    plan = plan_memory(config, tensors, num_devices=num_devices, device_bytes=device_bytes)
    assert plan.weight_bytes == pytest.approx(69_502_259_584 / num_devices, rel=2e-3)
    assert plan.kv_bytes_per_token == 320 * 1024 // num_devices
    assert plan.fits
    assert plan.kv_tokens == pytest.approx(thousands * 1000, rel=0.02)
    in_fp8 = plan_memory(
        config, tensors, num_devices=num_devices, device_bytes=device_bytes, kv_element_bytes=1
    )
    assert in_fp8.kv_tokens == pytest.approx(2 * plan.kv_tokens, abs=1)


def test_what_does_not_fit_has_no_tokens(tmp_path: Path) -> None:
    plan = plan_memory(
        config_of(tmp_path, "70b"),
        llama2.tensors("70b"),
        num_devices=1,
        device_bytes=int(GPU_48 * GIB),
    )
    assert (plan.fits, plan.kv_tokens) == (False, 0)
    assert plan.kv_cache_bytes < 0


def test_heads_that_do_not_divide_are_counted_where_most_are(tmp_path: Path) -> None:
    changes = {"num_attention_heads": 9, "num_key_value_heads": 3}
    config = ModelConfig.of(ModelFiles.read(tiny_llama.write(tmp_path, **changes)))
    tensors = [
        llama2.declared(name, "BF16", shape)
        for name, shape in {
            "model.layers.0.self_attn.q_proj.weight": (144, 48),
            "model.layers.0.self_attn.q_proj.weight_scale": (144, 1),
            "model.layers.0.self_attn.k_proj.weight": (48, 48),
            "model.layers.0.self_attn.o_proj.weight": (48, 144),
            "model.layers.0.self_attn.o_proj.weight_scale": (48, 1),
            "model.layers.0.self_attn.o_proj.bias": (48,),
            "model.norm.weight": (48,),
        }.items()
    ]
    # Two of three groups of heads on one rank: 6 query heads and 2 KV heads of 16.
    in_two = 96 * 48 + 96 + 32 * 48 + 48 * 96 + 48 + 48 + 48
    assert rank_weight_bytes(config, tensors, num_devices=2) == 2 * in_two
    assert kv_bytes_per_token(config, num_devices=2, element_bytes=2) == 2 * 2 * 2 * 16 * 2
    # Past one KV head a rank they repeat, and query heads are dealt out by themselves.
    in_nine = 16 * 48 + 16 + 16 * 48 + 48 * 16 + 48 + 48 + 48
    assert rank_weight_bytes(config, tensors, num_devices=9) == 2 * in_nine
    assert kv_bytes_per_token(config, num_devices=9, element_bytes=2) == 2 * 2 * 16 * 2

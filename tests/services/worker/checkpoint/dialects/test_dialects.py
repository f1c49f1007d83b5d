"""Which dialect config.json declares, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint.dialects import Dialect, choose_dialect
from services.worker.input_scheme import InputScheme
from services.worker.model_config import ModelConfig, ModelFiles

FLOAT8 = {"type": "float", "num_bits": 8}
TENSOR = FLOAT8 | {"strategy": "tensor"}
LAYER = "model.layers.3.mlp.down_proj"


def chosen(quantization: dict[str, Any]) -> Dialect:
    dialect = choose_dialect(quantization)
    assert dialect is not None
    return dialect


def compressed(*, ignore: list[str] | None = None, **group: Any) -> dict[str, Any]:
    """compressed-tensors with one group of no telling name."""
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "ignore": ignore,
        "config_groups": {"?": {"targets": ["Linear"], "weights": TENSOR} | group},
    }


def modelopt(**changes: Any) -> dict[str, Any]:
    return {"quant_method": "modelopt", "quant_algo": "FP8"} | changes


@pytest.mark.parametrize(
    ("quantization", "name"),
    [
        ({"use_fp8_e4m3": True}, "friendli"),
        ({"quant_method": "fp8", "activation_scheme": "static", "use_fp8_e4m3": True}, "friendli"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
        ({"quant_method": "FP8", "scheme": "static", "kv_cache_scheme": "static"}, "fp8"),
        ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8"),
        (compressed(), "compressed-tensors"),
        (compressed() | {"format": "naive-quantized"}, "compressed-tensors"),
        (compressed() | {"sparsity_config": {"format": "dense"}}, "compressed-tensors"),
        (compressed() | {"kv_cache_scheme": TENSOR}, "compressed-tensors"),
        (compressed(weights=TENSOR | {"scale_format": None}), "compressed-tensors"),
        (modelopt(), "modelopt"),
        (modelopt(quant_algo="fp8_pb_wo"), "modelopt"),
        (modelopt(kv_cache_quant_algo="FP8"), "modelopt"),
        (modelopt(kv_cache_scheme=FLOAT8), "modelopt"),
    ],
)
def test_dialects_are_known_by_config_json(quantization: dict[str, Any], name: str) -> None:
    assert chosen(quantization).name == name


def test_no_quantisation_is_no_dialect() -> None:
    assert choose_dialect({}) is None


@pytest.mark.parametrize(
    ("quantization", "key"),
    [
        ({"quant_method": "int8"}, "quant_method is 'int8'"),
        ({"quant_method": "int8", "use_fp8_e4m3": True}, "quant_method is 'int8'"),
        ({"quant_method": "awq", "bits": 4}, "quant_method is 'awq'"),
        ({"quant_method": "gptq", "bits": 4}, "quant_method is 'gptq'"),
        ({"quant_method": "bitsandbytes"}, "quant_method is 'bitsandbytes'"),
        ({"quant_method": ["fp8"]}, "quant_method is ['fp8']"),
        ({"bits": 4}, "quant_method is None"),
        ({"quant_method": "fp8", "kv_cache_scheme": "dynamic"}, "kv_cache_scheme is 'dynamic'"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fmt is 'e5m2'"),
        ({"quant_method": "fp8", "scale_fmt": "ue8m0"}, "scale_fmt is 'ue8m0'"),
        ({"quant_method": "fp8", "activation_scheme": {}}, "activation_scheme is {}"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size is [128]"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size is [0, 128]"),
        (
            {"quant_method": "fp8", "weight_block_size": [1, 2], "activation_scheme": "static"},
            "activation_scheme is 'static'",
        ),
        (modelopt(quant_algo="NVFP4"), "quant_algo is 'NVFP4'"),
        (modelopt(quant_algo="MIXED_PRECISION"), "quant_algo is 'MIXED_PRECISION'"),
        (modelopt(quant_algo=None), "quant_algo is None"),
        (modelopt(kv_cache_quant_algo="INT8"), "kv_cache_quant_algo is 'INT8'"),
        (modelopt(kv_cache_scheme={"type": "int"}), "kv_cache_scheme is"),
        (modelopt(ignore="lm_head"), "ignore is 'lm_head'"),
        (compressed() | {"format": "pack-quantized"}, "format is 'pack-quantized'"),
        (compressed() | {"format": "int-quantized"}, "format is 'int-quantized'"),
        (compressed() | {"format": "nvfp4-pack-quantized"}, "format is 'nvfp4-pack-quantized'"),
        (compressed() | {"quantization_status": "calibration"}, "quantization_status is"),
        (compressed() | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config is"),
        (compressed() | {"transform_config": {"a": 1}}, "transform_config is"),
        (compressed() | {"config_groups": {}}, "config_groups is {}"),
        (compressed() | {"kv_cache_scheme": TENSOR | {"dynamic": True}}, "kv_cache_scheme is"),
        (compressed() | {"kv_cache_scheme": TENSOR | {"num_bits": 4}}, "float, 4 bits"),
        (compressed(weights=TENSOR | {"type": "int"}), "weights is 'int, 8 bits'"),
        (compressed(weights=TENSOR | {"num_bits": 4}), "weights is 'float, 4 bits'"),
        (compressed(weights=TENSOR | {"symmetric": False}), "symmetric is False"),
        (compressed(weights=TENSOR | {"actorder": "group"}), "actorder is 'group'"),
        (compressed(weights=TENSOR | {"dynamic": True}), "weights is {"),
        (compressed(weights=TENSOR | {"strategy": "group"}), "weights is {"),
        (compressed(weights=FLOAT8 | {"strategy": "block"}), "block_structure is None"),
        (compressed(input_activations=TENSOR | {"type": "int"}), "input_activations is 'int"),
        (compressed(input_activations=FLOAT8 | {"strategy": "channel"}), "strategy is 'channel'"),
        (
            compressed(input_activations=FLOAT8 | {"strategy": "group", "dynamic": True}),
            "group_size is None",
        ),
        (compressed(input_activations=TENSOR | {"dynamic": "local"}), "dynamic is 'local'"),
        (compressed(weights=TENSOR | {"rounding": "up"}), "weights.rounding is 'up'"),
        (
            compressed(input_activations=TENSOR | {"scale_format": "ue5m3"}),
            "input_activations.scale_format is 'ue5m3'",
        ),
        (compressed(smoothing=0.5), "config_groups.?.smoothing is 0.5"),
        (compressed() | {"kv_cache_scheme": TENSOR | {"clip": 1}}, "kv_cache_scheme.clip is 1"),
        (compressed(output_activations=TENSOR), "output_activations is {"),
        (compressed(targets=None), "targets is None"),
        (compressed(ignore=["re:("]), "ignore is 're:('"),
    ],
)
def test_other_dialects_are_refused_by_name(quantization: dict[str, Any], key: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^config\.json: quantization_config\."
    ) as caught:
        choose_dialect(quantization)
    assert key in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("inputs", "scheme", "stored"),
    [
        (None, None, "absent"),
        (TENSOR, None, "required"),
        (FLOAT8, None, "required"),
        (TENSOR | {"dynamic": True}, InputScheme(), "absent"),
        (FLOAT8 | {"strategy": "token", "dynamic": True}, InputScheme(), "absent"),
        (FLOAT8 | {"group_size": 64, "dynamic": True}, InputScheme(group=64), "absent"),
    ],
)
def test_compressed_tensors_say_how_inputs_are_rounded(
    inputs: dict[str, Any] | None, scheme: InputScheme | None, stored: str
) -> None:
    rule = chosen(compressed(input_activations=inputs)).input_rule(LAYER)
    assert (rule.otherwise, rule.stored) == (scheme, stored)


@pytest.mark.parametrize(
    ("ignore", "is_ignored"),
    [
        ([LAYER], True),
        (["re:.*down_proj$"], True),
        ([r"re:model\.layers\.3\.mlp\..*"], True),
        (["Linear"], True),
        (["re:down_proj"], False),  # a pattern matches from the beginning
        (["down_proj", "lm_head", r"re:.*layers\.4\..*"], False),
    ],
)
def test_ignored_matrices_keep_their_inputs(ignore: list[str], is_ignored: bool) -> None:
    dialect = chosen(compressed(ignore=ignore, input_activations=TENSOR))
    assert (dialect.input_rule(LAYER).stored == "absent") == is_ignored


def test_the_group_that_names_a_matrix_most_closely_holds() -> None:
    dynamic = TENSOR | {"dynamic": True}
    quantization = compressed()
    quantization["config_groups"] = {
        "all": {"targets": ["Linear"], "weights": TENSOR},
        "some": {"targets": ["re:.*mlp.*"], "weights": TENSOR, "input_activations": TENSOR},
        "one": {"targets": [LAYER], "weights": TENSOR, "input_activations": dynamic},
    }
    rule = chosen(quantization).input_rule
    assert rule(LAYER).otherwise == InputScheme()
    assert rule("model.layers.3.mlp.up_proj").stored == "required"
    assert rule("model.layers.3.self_attn.q_proj").otherwise is None


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*b", "a{9}" * 5, ".*" * 5, "a" * 501, "(?"])
def test_a_pattern_that_could_take_forever_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError, match="ignore is"):
        choose_dialect(compressed(ignore=[f"re:{pattern}"]))


def test_modelopt_excludes_by_wildcards() -> None:
    dialect = chosen(modelopt(exclude_modules=["*layers.3.mlp*", "lm_head"]))
    assert dialect.input_rule(LAYER).stored == "absent"
    assert dialect.input_rule("model.layers.4.mlp.down_proj").stored == "required"


def test_hf_quant_config_counts_where_config_json_says_nothing(
    checkpoints: Path, tmp_path: Path
) -> None:
    config = json.loads((checkpoints / "modelopt-kv" / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ModelConfig.of(ModelFiles.read(tmp_path)).quantization == {}
    stated = (checkpoints / "modelopt-kv" / "hf_quant_config.json").read_text()
    (tmp_path / "hf_quant_config.json").write_text(stated)
    dialect = chosen(dict(ModelConfig.of(ModelFiles.read(tmp_path)).quantization))
    assert dialect.name == "modelopt"
    assert dialect.input_rule("lm_head").stored == "absent"
    assert dialect.input_rule(LAYER).stored == "required"

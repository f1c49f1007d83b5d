"""quant_method "compressed-tensors": what llmcompressor and its like write.

    config_groups: {any name: {targets, weights, input_activations}}, ignore: [targets]

A target is a module's name, "re:" and a regular expression that its beginning must match, or the
class "Linear". The group that names a matrix most closely is the one that holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.worker.checkpoint.dialects.dialect import (
    AS_THEY_ARE,
    DYNAMIC,
    STATIC,
    Dialect,
    InputRule,
    read_block,
    unsupported,
)
from services.worker.checkpoint.dialects.targets import Targets
from services.worker.input_scheme import InputScheme

_FORMATS = ("float-quantized", "naive-quantized")
_STATUSES = (None, "frozen", "compressed")  # before that, weights are not yet rounded
_WEIGHT_STRATEGIES = ("tensor", "channel", "block")
# What the library knows of a group, and of its weights or inputs: another key might change numbers.
_GROUP_KEYS = {"targets", "weights", "input_activations", "output_activations", "format"}
_ARGUMENT_KEYS = {
    *("num_bits", "type", "symmetric", "strategy", "group_size", "block_structure", "dynamic"),
    *("actorder", "scale_dtype", "zp_dtype", "observer", "observer_kwargs"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    targets: Targets
    inputs: InputRule
    block: tuple[int, int] | None


def read_compressed_tensors(quantization: Mapping[str, Any]) -> Dialect:
    """Raises InvalidArgumentError for integers, 4 bits, asymmetric or unknown schemes."""
    _check_top_level(quantization)
    stated = quantization.get("config_groups")
    if not isinstance(stated, dict) or not stated:
        raise unsupported("config_groups", stated)
    groups = [_read_group(f"config_groups.{name:.40}", group) for name, group in stated.items()]
    ignored = Targets.read("ignore", quantization.get("ignore") or [])
    blocks = {group.block for group in groups if group.block is not None}
    if len(blocks) > 1:
        raise unsupported("config_groups", "blocks of several sizes")
    return Dialect(
        name="compressed-tensors",
        block=next(iter(blocks), None),
        bits_in_int8=False,  # I8 would be integers
        input_rule=lambda matrix: _input_rule(matrix, groups, ignored),
    )


def _input_rule(matrix: str, groups: Sequence[_Group], ignored: Targets) -> InputRule:
    if ignored.closeness(matrix) > 0:
        return AS_THEY_ARE
    closest = max(groups, key=lambda group: group.targets.closeness(matrix))
    return closest.inputs if closest.targets.closeness(matrix) > 0 else AS_THEY_ARE


def _check_top_level(quantization: Mapping[str, Any]) -> None:
    if quantization.get("format") not in _FORMATS:
        raise unsupported("format", quantization.get("format"))
    if quantization.get("quantization_status") not in _STATUSES:
        raise unsupported("quantization_status", quantization["quantization_status"])
    if quantization.get("sparsity_config") and not _is_dense(quantization["sparsity_config"]):
        raise unsupported("sparsity_config", quantization["sparsity_config"])
    if quantization.get("transform_config"):
        raise unsupported("transform_config", quantization["transform_config"])
    scheme = quantization.get("kv_cache_scheme")
    if scheme is not None:
        _check_float8("kv_cache_scheme", scheme)
        if scheme.get("dynamic") or _strategy(scheme) != "tensor":
            raise unsupported("kv_cache_scheme", scheme)


def _is_dense(sparsity: Any) -> bool:
    return isinstance(sparsity, dict) and sparsity.get("format") == "dense"


def _read_group(key: str, group: Any) -> _Group:
    if not isinstance(group, dict):
        raise unsupported(key, group)
    _check_keys(key, group, _GROUP_KEYS)
    if group.get("format") not in (None, *_FORMATS):
        raise unsupported(f"{key}.format", group["format"])
    if group.get("output_activations") is not None:
        raise unsupported(f"{key}.output_activations", group["output_activations"])
    weights: Any = group.get("weights")
    _check_float8(f"{key}.weights", weights)
    strategy = _strategy(weights)
    if weights.get("dynamic") or strategy not in _WEIGHT_STRATEGIES:
        raise unsupported(f"{key}.weights", weights)
    block_key = f"{key}.weights.block_structure"
    return _Group(
        targets=Targets.read(f"{key}.targets", group.get("targets")),
        inputs=_read_inputs(f"{key}.input_activations", group.get("input_activations")),
        block=read_block(block_key, weights.get("block_structure"))
        if strategy == "block"
        else None,
    )


def _read_inputs(key: str, inputs: Any) -> InputRule:
    if inputs is None:
        return AS_THEY_ARE
    _check_float8(key, inputs)
    strategy, group = _strategy(inputs), inputs.get("group_size")
    if inputs.get("dynamic") not in (True, False, None):
        raise unsupported(f"{key}.dynamic", inputs["dynamic"])
    if not inputs.get("dynamic"):
        if strategy != "tensor":
            raise unsupported(f"{key}.strategy", strategy)
        return STATIC
    if strategy == "group":
        if type(group) is not int or group < 1:
            raise unsupported(f"{key}.group_size", group)
        return InputRule(stored="absent", otherwise=InputScheme(group=group))
    if strategy not in ("token", "tensor"):  # over a batch, a tensor is no scheme: see docs/fp8.md
        raise unsupported(f"{key}.strategy", strategy)
    return DYNAMIC


def _check_float8(key: str, arguments: Any) -> None:
    if not isinstance(arguments, dict):
        raise unsupported(key, arguments)
    if (arguments.get("type"), arguments.get("num_bits")) != ("float", 8):
        raise unsupported(key, f"{arguments.get('type')}, {arguments.get('num_bits')} bits")
    _check_keys(key, arguments, _ARGUMENT_KEYS)
    if arguments.get("symmetric", True) is not True:
        raise unsupported(f"{key}.symmetric", arguments["symmetric"])
    if arguments.get("actorder"):
        raise unsupported(f"{key}.actorder", arguments["actorder"])


def _check_keys(key: str, stated: Mapping[str, Any], known: Collection[str]) -> None:
    for name, value in stated.items():
        if name not in known and value is not None:
            raise unsupported(f"{key}.{name:.40}", value)


def _strategy(arguments: Mapping[str, Any]) -> object:
    """As stated, or by group_size, as the library fills it in."""
    if arguments.get("strategy") is not None:
        return arguments["strategy"]
    size = arguments.get("group_size")
    return "tensor" if size is None else "channel" if size == -1 else "group"

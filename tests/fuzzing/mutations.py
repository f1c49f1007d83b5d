"""Changes to a checkpoint, each from a number alone, so that a case can be made again."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzzing.seeds import Case, Special, StoredTensor

_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4}
_DTYPES |= {"I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F4": 1, "F8_E8M0": 1}
NESTED = "@nested"  # written as arrays in arrays, too deep to be kept as such
_SUFFIXES = (
    *("weight", "weight_scale", "weight_scale_inv", "input_scale", "in_scale", "act_scale", "bias"),
    *("zeros", "weight_zero_point", "k_scale", "v_scale", "kv_scale", "output_scale", "x"),
    "rotary_emb.inv_freq",
)
_SCALES = (0.0, -0.0, -1.0, 1.0, 1e-30, 1e38, float("inf"), float("nan"), 448.0)
_FILES = ("config.json", "hf_quant_config.json", "model.safetensors.index.json")
_OTHER_FILES = (
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("pytorch_model.bin", "model-00001-of-00002.safetensors", "consolidated.safetensors"),
)
_WORDS = (
    *("fp8", "FP8", "modelopt", "compressed-tensors", "awq", "int8", "static", "dynamic", "tensor"),
    *("channel", "block", "group", "token", "float", "int", "128x128", "0x0", "float-quantized"),
    *(
        "naive-quantized",
        "pack-quantized",
        "FP8_PB_WO",
        "FP8_PER_CHANNEL_PER_TOKEN",
        "e4m3",
        "e5m2",
    ),
    *("Linear", "re:.*", "re:(a+)+$", "re:[", "re:.*proj", "*", "lm_head", "frozen", "dense"),
    *("", "\0", "é" * 50, "x" * 5000, "9" * 5000, "../model.safetensors", "/etc/passwd"),
    *(
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "a/b.safetensors",
        "pytorch_model.bin",
    ),
)
_KEYS = (
    *("quant_method", "quant_algo", "activation_scheme", "scheme", "weight_block_size", "fmt"),
    *("ignore", "exclude_modules", "config_groups", "format", "kv_cache_scheme", "targets"),
    *("weights", "input_activations", "num_bits", "type", "symmetric", "strategy", "group_size"),
    *("block_structure", "dynamic", "actorder", "quantization_status", "sparsity_config"),
    *(
        "transform_config",
        "kv_cache_quant_algo",
        "use_fp8_e4m3",
        "output_activations",
        "quantization",
    ),
    *("quantization_config", "compression_config", "tie_word_embeddings", "head_dim"),
)


_PLAIN_VALUES: Sequence[Sequence[Any]] = (
    (None, True, False),
    (0, 1, -1, 2, 7, 8, 64, 128, 2**31 - 1, 2**31, 2**48, 2**63, 10**4000),
    (0.5, -1.5, 1e300, float("inf"), float("nan"), 8.0, 128.0),
    (*_WORDS, NESTED),
)


def mutated(case: Case, number: int) -> Case:
    """`case` with one to four changes."""
    rng, result = random.Random(number), case.copy()
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0](result, rng)
    return result


def any_value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value that could matter."""
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind < 6:
        return rng.choice(_PLAIN_VALUES[min(kind, 3)])
    if kind == 6:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice(_KEYS): any_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _change_json(case: Case, rng: random.Random) -> None:
    """Sets, adds or removes a value somewhere in a file, most often where it says how it is
    quantised.
    """
    name = rng.choice(tuple(case.json_files))
    at: Any = case.json_files[name]
    if name == "config.json" and "quantization_config" in at and rng.random() < 0.7:
        if not isinstance(at["quantization_config"], dict):
            return
        at = at["quantization_config"]
    while isinstance(at, dict | list) and at:
        keys: Sequence[Any] = list(at) if isinstance(at, dict) else range(len(at))
        key = rng.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.7:
            at = at[key]
            continue
        _set(at, key, rng)
        return


def _set(at: Any, key: Any, rng: random.Random) -> None:
    action = rng.randrange(4)
    if action == 0:
        del at[key]
    elif action == 1 and isinstance(at, dict):
        at[rng.choice(_KEYS)] = any_value(rng)
    elif action == 2 and isinstance(at[key], int | float) and not isinstance(at[key], bool):
        at[key] = at[key] + rng.choice((-1, 1, 64))
    else:
        at[key] = any_value(rng)


def _pick(case: Case, rng: random.Random) -> tuple[dict[str, StoredTensor], str] | None:
    filled = [shard for shard in case.shards if shard]
    if not filled:
        return None
    shard = rng.choice(filled)
    names = list(shard)
    scales = [name for name in names if "scale" in name or "zero" in name]
    return shard, rng.choice(scales if scales and rng.random() < 0.5 else names)


def _change_tensor(case: Case, rng: random.Random) -> None:
    picked = _pick(case, rng)
    if picked is None:
        return
    shard, name = picked
    rng.choice((_drop, _rename, _retype, _reshape, _poke, _rescale, _repeat))(shard, name, rng)


def _drop(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    del shard[name]


def _rename(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    new = f"{name.rpartition('.')[0]}.{rng.choice(_SUFFIXES)}"
    tensor = shard[name] if rng.random() < 0.5 else shard.pop(name)
    shard[new] = StoredTensor(tensor.dtype, list(tensor.shape), tensor.data)


def _retype(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    """Another dtype: of as many elements, or of as many bytes."""
    tensor, dtype = shard[name], rng.choice(tuple(_DTYPES))
    size, old = _DTYPES[dtype], _DTYPES.get(tensor.dtype, 1)
    count = len(tensor.data) // old
    if rng.random() < 0.7:
        data = (tensor.data * (1 + size))[: count * size]
        shard[name] = StoredTensor(dtype, tensor.shape, data)
    else:
        count = len(tensor.data) // size
        shard[name] = StoredTensor(dtype, [count], tensor.data[: count * size])


def _reshape(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    tensor, size = shard[name], _DTYPES.get(shard[name].dtype, 1)
    shape = list(tensor.shape)
    action = rng.randrange(5)
    if action == 0:
        shape.reverse()
    elif action == 1:
        shape.insert(rng.randrange(len(shape) + 1), 1)
    elif action == 2 and shape:
        shape[rng.randrange(len(shape))] += rng.choice((-1, 1))
    elif action == 3:
        shape = [] if rng.random() < 0.5 else [1]
    else:
        shape = [rng.choice((0, 1, 2, 3)) for _ in range(rng.randrange(5))]
    count = 1
    for length in shape:
        count *= max(0, length)
    shape = [max(0, length) for length in shape]
    data = (tensor.data * (2 + count * size // max(1, len(tensor.data))))[: count * size]
    if len(data) == count * size:
        shard[name] = StoredTensor(tensor.dtype, shape, data)


def _poke(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    """Single bytes, among them the NaNs of e4m3."""
    tensor = shard[name]
    data = bytearray(tensor.data)
    for _ in range(rng.randrange(1, 4)):
        if data:
            data[rng.randrange(len(data))] = rng.choice((0x7F, 0xFF, 0, 0x80, rng.randrange(256)))
    shard[name] = StoredTensor(tensor.dtype, tensor.shape, bytes(data))


def _rescale(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    tensor = shard[name]
    if tensor.dtype == "F32" and len(tensor.data) >= 4:
        value = struct.pack("<f", rng.choice(_SCALES))
        start = 4 * rng.randrange(len(tensor.data) // 4)
        data = tensor.data[:start] + value + tensor.data[start + 4 :]
        shard[name] = StoredTensor(tensor.dtype, tensor.shape, data)


def _repeat(shard: dict[str, StoredTensor], name: str, rng: random.Random) -> None:
    """A tensor of another layer, or of none."""
    shard[rng.choice((name.replace("layers.0", "layers.1"), f"extra.{name}"))] = shard[name]


def _change_shards(case: Case, rng: random.Random) -> None:
    action = rng.randrange(5)
    if action == 0:
        case.has_index = not case.has_index
    elif action == 1:
        case.shards.append({})
        case.has_index = True
    elif action == 2 and len(case.shards) > 1:
        case.shards.pop(rng.randrange(len(case.shards)))
    elif (picked := _pick(case, rng)) is not None:
        shard, name = picked
        if len(case.shards) == 1:
            case.shards.append({})
            case.has_index = True
        target = rng.choice(case.shards)
        target[name] = shard[name] if action == 3 else shard.pop(name)


def _lie_in_header(case: Case, rng: random.Random) -> None:
    picked = _pick(case, rng)
    if picked is None:
        return
    _, name = picked
    entry: Any = any_value(rng)
    if rng.random() < 0.8:
        entry = {
            rng.choice(("dtype", "shape", "data_offsets", "x")): rng.choice(
                (
                    any_value(rng),
                    [rng.choice((0, 1, -1, 2**47, 2**63)) for _ in range(2)],
                    "F8_E4M3",
                )
            )
        }
    case.headers[name] = entry


def _lie_in_index(case: Case, rng: random.Random) -> None:
    case.has_index = True
    picked = _pick(case, rng)
    name = picked[1] if picked is not None and rng.random() < 0.7 else rng.choice(_WORDS)
    case.index[name.replace("input_scale", "act_scale")] = any_value(rng)


def _break_bytes(case: Case, rng: random.Random) -> None:
    """Of a file as it was written: see execution.write_case."""
    name = rng.choice(("model.safetensors", *_FILES, *_OTHER_FILES))
    length = rng.choice((0, 1, 7, 8, 9, 50, 2000))
    case.replaced[name] = rng.choice(
        (
            None,
            rng.choice(tuple(Special)),
            rng.randbytes(length),
            (2 ** rng.randrange(64)).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"{}",
            b"[" * 20_000,
            *(b"{}", b"[]", b'{"do_sample": 7}', b'{"chat_template": 7}'),
            b'{"weight_map": {}}',
            (18).to_bytes(8, "little") + b'{"a": {}, "a": {}}',
        )
    )


def _cut(case: Case, rng: random.Random) -> None:
    case.headers["__cut__"] = rng.choice((-1, -7, 1, 4096, rng.randrange(-3000, 3000)))


def _choose(case: Case, rng: random.Random) -> None:
    """How it is loaded."""
    case.quantise = rng.random() < 0.5
    case.size = rng.choice((1, 2, 3))
    case.rank = rng.randrange(case.size)


Mutation = Callable[[Case, random.Random], None]
_WEIGHTS: dict[Mutation, int] = {
    _change_json: 30,
    _change_tensor: 35,
    _change_shards: 5,
    _lie_in_header: 10,
    _lie_in_index: 5,
    _break_bytes: 5,
    _cut: 3,
    _choose: 10,
}

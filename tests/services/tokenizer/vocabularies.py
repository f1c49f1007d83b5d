"""Tokenizers of each kind, for the tests: found in the tree and in packages, or built here."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.backends.sentencepiece import SentencePieceBackend
from services.tokenizer.tokenizer_config import TokenizerConfig

CHECKPOINTS = Path(__file__).parents[2] / "fixtures" / "checkpoints"

SENTENCEPIECE_MODELS = (
    "tokenizer.model.v1",
    "mistral_instruct_tokenizer_240216.model.v2",
    "mistral_instruct_tokenizer_240323.model.v3",
)

_WORDS = "the cat sat hello world Hello naïve café int paris is"
_LLAMA_SPECIAL = ["<unk>", "<s>", "</s>"]


@cache
def sentencepiece_path(name: str) -> Path:
    """A model of the package mistral-common."""
    spec = importlib.util.find_spec("mistral_common")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / name


@cache
def sentencepiece(name: str = SENTENCEPIECE_MODELS[0]) -> SentencePieceBackend:
    return SentencePieceBackend(sentencepiece_path(name), TokenizerConfig())


def save(tokenizer: Tokenizer, folder: Path, **config: Any) -> Path:
    """A folder as a checkpoint has it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def huggingface(folder: Path) -> HuggingFaceBackend:
    return HuggingFaceBackend(folder / "tokenizer.json", TokenizerConfig.read(folder))


def _merged(tokens: list[str], words: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of `tokens`, and merges that build each word from left to right."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    merges: list[tuple[str, str]] = []
    for word in words.split():
        for end in range(2, len(word) + 1):
            pair = (word[: end - 1], word[end - 1])
            vocabulary.setdefault(word[:end], len(vocabulary))
            if pair not in merges:
                merges.append(pair)
    return vocabulary, merges


def _byte_fallback_bpe() -> models.BPE:
    letters = sorted(set("▁" + _WORDS.replace(" ", "") + "<>s/[]INST.,!?0123456789日"))
    words = " ".join(f"▁{word}" for word in _WORDS.split()) + " ▁▁▁▁"
    tokens = [*_LLAMA_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary, merges = _merged(tokens, words)
    return models.BPE(
        vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )


def llama2_tokenizer() -> Tokenizer:
    """The pipeline of Llama 2's tokenizer.json: Prepend, byte fallback, Strip."""
    tokenizer = llama2_pipeline(_byte_fallback_bpe(), bos_id=1)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.add_special_tokens(_LLAMA_SPECIAL)
    return tokenizer


def llama2_pipeline(model: models.BPE, *, bos_id: int) -> Tokenizer:
    """All of it but the spaces before words and the special tokens."""
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bos_id)]
    )
    return tokenizer


def metaspace_tokenizer() -> Tokenizer:
    """A vocabulary whose spaces are put in and taken out by Metaspace."""
    tokenizer = Tokenizer(_byte_fallback_bpe())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)]
    )
    tokenizer.add_special_tokens(_LLAMA_SPECIAL)
    return tokenizer


def wordpiece_tokenizer() -> Tokenizer:
    """A vocabulary in which the text of an id depends on its place."""
    tokens = ["[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz.,!?<>/[]'"]
    tokens += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokens += ["the", "cat", "##ing", "hello", "world", "##s", "日", "é"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def windowed_tokenizer() -> Tokenizer:
    """A byte-level one with a step more in its decoder, so that its ids have no pieces."""
    tokenizer = Tokenizer.from_file(str(CHECKPOINTS / "fmo-l0" / "tokenizer.json"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("~~", "~~"), decoders.ByteLevel()])
    return tokenizer


BUILT = {
    "llama2": llama2_tokenizer,
    "windowed": windowed_tokenizer,
    "metaspace": metaspace_tokenizer,
    "wordpiece": wordpiece_tokenizer,
}
NAMES = ("byte_level", *BUILT, *SENTENCEPIECE_MODELS)


def backend_named(name: str, folder: Path) -> TokenizerBackend:
    """One of NAMES; what is built is written to `folder`."""
    if name == "byte_level":
        return huggingface(CHECKPOINTS / "fmo-l0")
    if name in BUILT:
        return huggingface(save(BUILT[name](), folder / name, bos_token="<s>", eos_token="</s>"))
    return sentencepiece(name)

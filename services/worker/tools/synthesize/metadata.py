"""What the GGUF of a synthesized model would say, under GGUF's own keys.

The tokenizer knows three special tokens, the 256 bytes, and filler words that no text is encoded
to: every id that random weights choose has a text.
"""

from __future__ import annotations

from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from services.worker.tools.synthesize.shapes import ModelShape

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_NORMAL, _CONTROL = 1, 3  # GGUF's types of a token
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def metadata_of(shape: ModelShape) -> dict[str, Any]:
    """The keys that tools/prepare reads."""
    tokens = _tokens(shape.vocab_size)
    return {
        "llama.attention.head_count": shape.num_heads,
        "llama.attention.head_count_kv": shape.num_kv_heads,
        "llama.attention.layer_norm_rms_epsilon": shape.rms_norm_eps,
        "llama.block_count": shape.num_layers,
        "llama.context_length": shape.max_context,
        "llama.embedding_length": shape.hidden_size,
        "llama.feed_forward_length": shape.intermediate_size,
        "llama.rope.freq_base": shape.rope_theta,
        "llama.vocab_size": shape.vocab_size,
        "tokenizer.chat_template": _CHAT_TEMPLATE,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.token_type": [
            _CONTROL if token in _SPECIAL_TOKENS else _NORMAL for token in tokens
        ],
        "tokenizer.ggml.tokens": tokens,
    }


def _tokens(vocab_size: int) -> list[str]:
    letters = sorted(ByteLevel.alphabet())  # one for each byte
    known = [*_SPECIAL_TOKENS, *letters]
    assert vocab_size >= len(known), f"{vocab_size} tokens hold no {len(letters)} bytes"
    return known + [f"w{number}" for number in range(len(known), vocab_size)]

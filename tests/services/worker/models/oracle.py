"""Random checkpoints made by transformers, and its logits beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from services.worker.models import Model, load_model
from tests.services.worker.paged_sequences import PagedSequence, PagedSequences

TOLERANCE = 1e-4  # of a logit, in standard deviations of its row
NUM_DECODED = 64

# Shapes as keyword arguments of any configuration of transformers.
SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
ODD_HEADS = {
    "hidden_size": 40,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 24,
}
WIDE_HEADS = {
    "hidden_size": 72,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 32,
}
TIED = {"num_key_value_heads": 1, "tie_word_embeddings": True}


def write_random(folder: Path, config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Saves a random model of this configuration in `folder`, and returns it, in float32."""
    config._attn_implementation = "eager"
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and bool((parameter == 1).all())
            parameter.copy_(1 + 0.2 * noise if is_norm else 0.15 * noise)
    model.save_pretrained(folder)
    return model


def quantise(folder: Path, model: PreTrainedModel, *, input_scale: float | None = None) -> None:
    """Rewrites the layers' matrices of a saved model in Friendli's FP8, and gives `model` what
    these stand for. input_scale: that of every matrix's inputs; None: each token has its own.
    """
    tensors = load_file(folder / "model.safetensors")
    state = model.state_dict()
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].abs().max() / 448
        values = (tensors[name] / scale).to(torch.float8_e4m3fn)
        state[name].copy_(values.float() * scale)
        tensors[name] = values.view(torch.int8)
        tensors[name.replace(".weight", ".weight_scale")] = scale
        if input_scale is not None:
            tensors[name.replace(".weight", ".in_scale")] = torch.tensor(input_scale)
    save_file(tensors, folder / "model.safetensors")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_fp8_e4m3": True}))


def round_inputs(model: PreTrainedModel, *, input_scale: float | None) -> None:
    """Rounds the inputs of the layers' matrices to FP8, as `quantise` declared it."""

    def rounded(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        x = inputs[0]
        scale = x.abs().amax(-1, keepdim=True) / 448 if input_scale is None else input_scale
        return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale

    for name, module in model.named_modules():
        if name.endswith("_proj"):
            module.register_forward_pre_hook(rounded)


def check_random(
    folder: Path,
    config: PretrainedConfig,
    device: torch.device,
    lengths: list[int],
    *,
    is_fp8: bool = False,
) -> None:
    """A random model of this configuration, loaded in float32, gives transformers' logits."""
    theirs = write_random(folder, config)
    if is_fp8:
        quantise(folder, theirs)
    model = load_model(folder, device=device, dtype=torch.float32)
    assert_equal_logits(model, theirs, lengths)


@torch.inference_mode()
def assert_equal_logits(model: Model, theirs: PreTrainedModel, lengths: list[int]) -> None:
    """Prompts of these lengths, in chunks and in one batch, then 64 tokens decoded greedily.

    Every logit is compared, and the token chosen wherever transformers' margin allows.
    """
    sequences = [
        PagedSequence([(7 * n + length) % 96 for n in range(length)]) for length in lengths
    ]
    paged, logits = PagedSequences(model), {item: list[torch.Tensor]() for item in sequences}
    for chunk in (1, 30, 100, 1000):  # prompts in chunks that end in odd places
        work = [
            (item, min(chunk, len(item.ids) - item.num_done))
            for item in sequences
            if item.num_done < len(item.ids)
        ]
        for (item, _), row in zip(work, paged.step(work) if work else [], strict=True):
            if item.num_done == len(item.ids):
                logits[item].append(row)
    while len(logits[sequences[0]]) < NUM_DECODED:
        for item in sequences:
            item.ids.append(int(logits[item][-1].argmax()))
        rows = paged.step([(item, 1) for item in sequences])
        for item, row in zip(sequences, rows, strict=True):
            logits[item].append(row)
    for item in sequences:
        given = torch.stack(logits[item]).cpu()
        expected = theirs(torch.tensor([item.ids])).logits[0, -NUM_DECODED:]
        spread = expected.std(-1, keepdim=True)
        assert ((given - expected).abs() < TOLERANCE * spread).all(), len(item.ids) - NUM_DECODED
        best = expected.topk(2).values
        sure = best[:, 0] - best[:, 1] > 2 * TOLERANCE * spread[:, 0]
        assert sure.sum() > NUM_DECODED // 2
        assert torch.equal(given.argmax(-1)[sure], expected.argmax(-1)[sure])

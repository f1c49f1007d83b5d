"""A rank's weights: shapes are checked, and nothing is left unread."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.models import load_model
from services.worker.placement import DECODER_PLACEMENT
from tests.services.worker import tiny_llama


def load(folder: Path, tensors: dict[str, torch.Tensor], **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps(tiny_llama.CONFIG | changes))
    save_file(tensors, folder / "model.safetensors")
    load_model(folder, device=torch.device("cpu"), dtype=None)


Q_PROJ = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        (f"{Q_PROJ}.weight", torch.ones(96, 47).bfloat16(), "must be [96, 48]"),
        (f"{Q_PROJ}.weight", torch.ones(95, 48).bfloat16(), "must be [96, 48]"),
        (f"{Q_PROJ}.weight", torch.ones(96, 48).to(torch.int8), "names no quantisation"),
        ("model.norm.weight", torch.ones(49).bfloat16(), "must be [48]"),
        ("model.norm.weight", torch.ones(48).long(), "must be F32, F16 or BF16"),
        ("model.embed_tokens.weight", torch.ones(95, 48).bfloat16(), "must be [96, 48]"),
        (f"{Q_PROJ}.bias", torch.ones(96).bfloat16(), "is not one that this model reads"),
        (f"{Q_PROJ}.k_scale", torch.ones(1), "is not one that this model reads"),
        ("model.layers.2.mlp.up_proj.weight", torch.ones(96, 48), "is not one that this"),
    ],
)
def test_a_wrong_or_unread_tensor_is_named(
    tmp_path: Path, name: str, tensor: torch.Tensor, reason: str
) -> None:
    tensors = tiny_llama.tensors(tiny_llama.CONFIG) | {name: tensor}
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, tensors)
    assert f"tensor '{name}'" in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", f"{Q_PROJ}.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    tensors = tiny_llama.tensors(tiny_llama.CONFIG)
    del tensors[name]
    with pytest.raises(InvalidArgumentError, match=f"tensor '{name}' is missing"):
        load(tmp_path, tensors)


BIASES = {
    f"model.layers.{layer}.self_attn.{part}_proj.bias": torch.ones(rows).bfloat16()
    for layer in range(2)
    for part, rows in (("q", 96), ("k", 32), ("v", 32), ("o", 48))
}


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [(torch.ones(95).bfloat16(), "must be [96]"), (torch.ones(96).to(torch.int8), "must be F32")],
)
def test_a_wrong_bias_is_named(tmp_path: Path, tensor: torch.Tensor, reason: str) -> None:
    tensors = tiny_llama.tensors(tiny_llama.CONFIG) | BIASES
    load(tmp_path, tensors, attention_bias=True)
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, tensors | {f"{Q_PROJ}.bias": tensor}, attention_bias=True)
    assert f"tensor '{Q_PROJ}.bias'" in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "model.norm.weight", f"{Q_PROJ}.weight", f"{Q_PROJ}.bias"],
)
def test_what_is_not_finite_is_named(tmp_path: Path, name: str, value: float) -> None:
    tensors = tiny_llama.tensors(tiny_llama.CONFIG) | BIASES
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[-3] = value
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, tensors, attention_bias=True)
    assert caught.value.message == (
        f"model.safetensors: tensor '{name}' holds a value that is not finite."
    )


def test_what_the_activations_type_cannot_hold_is_named(tmp_path: Path) -> None:
    folder = tiny_llama.write(tmp_path, torch_dtype="float32")
    large = {"model.embed_tokens.weight": torch.full((96, 48), 70_000.0)}
    save_file(tiny_llama.tensors(tiny_llama.CONFIG) | large, folder / "model.safetensors")
    load_model(folder, device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(InvalidArgumentError, match=r"embed_tokens.* is too large for float16"):
        load_model(folder, device=torch.device("cpu"), dtype=torch.float16)


def test_ranks_share_the_outputs_of_a_bias_or_the_first_has_it(tmp_path: Path) -> None:
    bias = torch.arange(96).float()
    names = [f"model.layers.0.self_attn.{part}_proj" for part in "qo"]
    save_file({f"{name}.bias": bias.clone() for name in names}, tmp_path / "model.safetensors")

    def parts(name: str, unit: int) -> list[list[float]]:
        return [
            Weights(
                CheckpointReader(tmp_path),
                None,
                dtype=torch.float32,
                device=torch.device("cpu"),
                placement=DECODER_PLACEMENT,
                rank=rank,
                size=2,
                on_progress=lambda *progress: None,
            )
            .bias(name, rows=96, unit=unit)
            .tolist()
            for rank in range(2)
        ]

    values = bias.tolist()
    assert parts(names[0], unit=32) == [values[:64], values[64:]]  # 3 heads: 2 and 1
    assert parts(names[1], unit=1) == [values, [0.0] * 96]  # summed afterwards


def test_a_missing_bias_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"q_proj\.bias' is missing"):
        load(tmp_path, tiny_llama.tensors(tiny_llama.CONFIG), attention_bias=True)


def test_what_old_versions_wrote_beside_the_weights_is_ignored(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    load(tmp_path, tiny_llama.tensors(tiny_llama.CONFIG) | {name: torch.ones(8)})


def test_a_tied_head_may_be_stored_twice_but_not_differ(tmp_path: Path) -> None:
    tensors = tiny_llama.tensors(tiny_llama.CONFIG)
    copy = tensors["model.embed_tokens.weight"].clone()
    load(tmp_path, tensors | {"lm_head.weight": copy}, tie_word_embeddings=True)
    copy[3, 4] += 1
    with pytest.raises(InvalidArgumentError, match=r"'lm_head\.weight' differs from"):
        load(tmp_path, tensors | {"lm_head.weight": copy}, tie_word_embeddings=True)

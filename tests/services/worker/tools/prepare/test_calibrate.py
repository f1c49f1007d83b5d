from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaModel

from services.worker.tools.prepare.calibrate import Prompts, Shape, run_layer

CONFIG = LlamaConfig(
    hidden_size=48,
    intermediate_size=80,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    num_hidden_layers=1,
    vocab_size=32,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
)
SHAPE = Shape(num_heads=6, num_kv_heads=2, head_size=8, rope_theta=1000.0, norm_epsilon=1e-5)


def test_a_layer_equals_transformers_and_its_inputs_are_measured() -> None:
    torch.manual_seed(0)
    model: Any = LlamaModel(CONFIG).double()
    model.eval()
    layer = model.layers[0]
    weights = {name: tensor.float().numpy() for name, tensor in layer.state_dict().items()}
    layer.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    ids = [torch.randint(0, 32, (1, length)) for length in (5, 1, 9)]
    seen: dict[str, float] = {}
    for name, linear in {
        "q": layer.self_attn.q_proj,
        "o": layer.self_attn.o_proj,
        "gate": layer.mlp.gate_proj,
        "down": layer.mlp.down_proj,
    }.items():
        linear.register_forward_pre_hook(
            lambda _module, inputs, name=name: seen.__setitem__(
                name, max(seen.get(name, 0.0), inputs[0].abs().max().item())
            )
        )
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        hidden = torch.cat([model.embed_tokens(prompt)[0] for prompt in ids]).numpy()
        for prompt in ids:
            model(prompt)

    after, inputs = run_layer(weights, Prompts(hidden=hidden, lengths=[5, 1, 9]), SHAPE)
    expected = torch.cat([output.reshape(-1, 48) for output in outputs]).numpy()
    np.testing.assert_allclose(after.hidden, expected, atol=1e-5)
    assert inputs.keys() == seen.keys()
    for name, rows in inputs.items():
        assert len(rows) == 5 + 1 + 9
        assert abs(np.abs(rows).max() / seen[name] - 1) < 1e-4

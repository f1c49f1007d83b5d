"""What a checkpoint folder says about its model, read without torch and checked once.

json_file.py   the values of a JSON file, and the errors that name file and key
rope.py        rotary embeddings, and how they are scaled
sampling.py    how the model wants to be sampled
model_types.py which architectures are served
refused_keys.py what would change the answer, and is not computed
config.py      what every decoder's config.json says

What an architecture's own keys mean is said in its file under models/.
"""

from services.worker.model_config.config import ModelConfig, ModelFiles
from services.worker.model_config.json_file import JsonFile, checkpoint_error
from services.worker.model_config.model_types import read_model_type, served_model_types
from services.worker.model_config.rope import Llama3Scaling, RopeConfig, YarnScaling
from services.worker.model_config.sampling import SamplingDefaults

__all__ = [
    "JsonFile",
    "Llama3Scaling",
    "ModelConfig",
    "ModelFiles",
    "RopeConfig",
    "SamplingDefaults",
    "YarnScaling",
    "checkpoint_error",
    "read_model_type",
    "served_model_types",
]

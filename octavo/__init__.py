"""Octavo: FP8 language models over gRPC. Importing this package imports nothing heavy: a name is
imported from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from octavo import errors as errors
from octavo.errors import OctavoError as OctavoError

if TYPE_CHECKING:
    from octavo.client.async_client import AsyncClient as AsyncClient
    from octavo.client.async_session import AsyncSession as AsyncSession
    from octavo.client.async_session import AsyncSessionStream as AsyncSessionStream
    from octavo.client.async_stream import AsyncGenerationStream as AsyncGenerationStream
    from octavo.client.client import Client as Client
    from octavo.client.generation_parameters import GenerationParameters as GenerationParameters
    from octavo.client.generation_parameters import Message as Message
    from octavo.client.generation_types import Accepted as Accepted
    from octavo.client.generation_types import Delta as Delta
    from octavo.client.generation_types import Event as Event
    from octavo.client.generation_types import Finished as Finished
    from octavo.client.generation_types import FinishReason as FinishReason
    from octavo.client.generation_types import Generation as Generation
    from octavo.client.generation_types import Output as Output
    from octavo.client.generation_types import Token as Token
    from octavo.client.generation_types import TopToken as TopToken
    from octavo.client.generation_types import Usage as Usage
    from octavo.client.model_types import Capabilities as Capabilities
    from octavo.client.model_types import GenerationDefaults as GenerationDefaults
    from octavo.client.model_types import Model as Model
    from octavo.client.model_types import Tokenization as Tokenization
    from octavo.client.session import Session as Session
    from octavo.client.session import SessionStream as SessionStream
    from octavo.client.stream import GenerationStream as GenerationStream

__version__ = "0.1.0"

# What the block above shows to type checkers.
_MODULES = {
    "octavo.client.async_client": ["AsyncClient"],
    "octavo.client.async_session": ["AsyncSession", "AsyncSessionStream"],
    "octavo.client.async_stream": ["AsyncGenerationStream"],
    "octavo.client.client": ["Client"],
    "octavo.client.generation_parameters": ["GenerationParameters", "Message"],
    "octavo.client.generation_types": [
        "Accepted",
        "Delta",
        "Event",
        "FinishReason",
        "Finished",
        "Generation",
        "Output",
        "Token",
        "TopToken",
        "Usage",
    ],
    "octavo.client.model_types": ["Capabilities", "GenerationDefaults", "Model", "Tokenization"],
    "octavo.client.session": ["Session", "SessionStream"],
    "octavo.client.stream": ["GenerationStream"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'octavo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])

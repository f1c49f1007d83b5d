"""How a model wants to be sampled where a request says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from services.worker.model_config.json_file import JsonFile


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingDefaults:
    """What generation_config.json asks for where a request says nothing; None: it says nothing.

    All three are None unless the file says do_sample.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    @classmethod
    def read(cls, generation: JsonFile) -> SamplingDefaults:
        """Raises InvalidArgumentError for a value that no sampler can use."""
        if not generation.flag("do_sample"):
            return cls()
        values = generation.values
        top_k = values.get("top_k")
        if top_k is not None and (
            not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0
        ):
            raise generation.error("top_k", "a whole number, 0 or more")
        top_p = generation.number("top_p") if values.get("top_p") is not None else None
        if top_p is not None and top_p > 1.0:
            raise generation.error("top_p", "at most 1")
        temperature = values.get("temperature")
        if temperature is not None and temperature != 0:  # 0 is greedy, and honoured
            temperature = generation.number("temperature")
        return cls(
            temperature=None if temperature is None else float(temperature),
            top_p=top_p,
            top_k=top_k,
        )

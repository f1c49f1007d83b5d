"""The values of one JSON file; every complaint names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import InvalidArgumentError, NotFoundError

_MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class JsonFile:
    """An object of a file: the whole, or what stands under one of its keys.

    `prefix` is what comes before a key in a complaint: "rope_scaling." for such a part.
    """

    name: str
    values: Mapping[str, Any]
    prefix: str = ""

    @classmethod
    def read(cls, path: Path) -> JsonFile:
        """Raises NotFoundError without the file, InvalidArgumentError where it is no object."""
        if path.exists() and not path.is_file():  # a pipe would be read for ever
            raise checkpoint_error(path.name, "is no file")
        if not path.exists():
            raise NotFoundError(
                f"{path} does not exist; a model folder holds {path.name}.",
                reason="CHECKPOINT_FILE_MISSING",
                metadata={"file": path.name},
            )
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise checkpoint_error(path.name, f"is larger than {_MAX_JSON_BYTES} bytes")
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise checkpoint_error(path.name, f"is not JSON: {error}") from None
        except OSError as error:
            raise checkpoint_error(path.name, f"cannot be read: {error.strerror}") from None
        if not isinstance(values, dict):
            raise checkpoint_error(path.name, "is not a JSON object")
        return cls(path.name, values)

    @classmethod
    def read_optional(cls, path: Path) -> JsonFile:
        """As `read`; a file that is missing says nothing."""
        return cls.read(path) if path.exists() else cls(path.name, {})

    def error(self, key: str, limit: str) -> InvalidArgumentError:
        """The error for a value that is not what `limit` says."""
        shown, key = repr(self.values.get(key))[:80], f"{self.prefix}{key}"
        return checkpoint_error(self.name, f"{key} is {shown}; it must be {limit}", key=key)

    def part(self, key: str) -> JsonFile | None:
        """The object under `key`; None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "an object or null")
        return JsonFile(self.name, value, f"{self.prefix}{key}.")

    def positive(self, key: str, default: int | None = None, *, most: int = 2**31 - 1) -> int:
        """A whole number above 0; `default` where the file says nothing, if there is one."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise self.error(key, f"a positive whole number, at most {most}")
        return value

    def positive_or_none(self, key: str, default: int | None = None) -> int | None:
        """As `positive`, where null is a value of its own; `default` where the key is left out."""
        if key not in self.values:
            return default
        return None if self.values[key] is None else self.positive(key)

    def count(self, key: str, default: int) -> int:
        """A whole number, 0 or more; `default` where the file says nothing."""
        return 0 if self.values.get(key) == 0 else self.positive(key, default)

    def number(self, key: str, default: float | None = None) -> float:
        """A number above 0; `default` where the file says nothing, if there is one."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
            raise self.error(key, "a positive number")
        return float(value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false; `default` where the file says nothing."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false")
        return default if value is None else value


def checkpoint_error(file: str, what: str, *, key: str | None = None) -> InvalidArgumentError:
    """The error for a checkpoint that cannot be loaded: "{file}: {what}."."""
    return InvalidArgumentError(
        f"{file}: {what}.",
        reason="CHECKPOINT_UNSUPPORTED",
        metadata={"file": file} | ({"field": key} if key else {}),
    )

"""One rule for the settings of every process: flags, then OCTAVO_* environment, then a TOML file.

A process declares a subclass of `ProcessSettings`; each field is a flag (`--http-port`), an
environment variable (`OCTAVO_HTTP_PORT`) and a key of the file given with `--config`. The result is
frozen. What is wrong is one line on stderr and exit status 2, before anything starts.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

EXIT_USAGE = 2
ENVIRONMENT_PREFIX = "OCTAVO_"


class ProcessSettings(BaseSettings):
    """The settings of one process. Subclasses add fields with descriptions."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        enable_decoding=False,
        use_attribute_docstrings=True,
        nested_model_default_partial_update=False,
    )

    config: Path | None = Field(
        default=None, description="TOML file of settings; flags and environment win over it."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _split_lists(cls, value: Any, info: ValidationInfo) -> Any:
        """A list in the environment is written with commas: OCTAVO_WORKER=a:1,b:2."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, str) and get_origin(annotation) in (list, tuple):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @classmethod
    def load(cls, argv: Sequence[str] | None = None, *, prog: str) -> Self:
        """Reads flags, environment and file; ends the process with status 2 where one is wrong."""
        arguments = list(sys.argv[1:] if argv is None else argv)
        config_path = _config_path(arguments, prog)
        _refuse_unknown_flags(arguments, cls, prog)
        file_values = _read_file(config_path, cls, prog) if config_path else {}
        try:
            source: CliSettingsSource[Any] = CliSettingsSource(
                cls, cli_prog_name=prog, cli_parse_args=arguments, cli_exit_on_error=False
            )
            values: dict[str, Any] = _absent_elsewhere(file_values)
            return cls(**{"_cli_settings_source": source, **values})
        except SettingsError as error:
            fail(prog, str(error).removeprefix("error parsing CLI: "))
        except ValidationError as error:
            fail(prog, _first_problem(error))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Orders the sources: flags come first by themselves, then environment, then the file."""
        return env_settings, init_settings


def fail(prog: str, problem: str) -> NoReturn:
    """Ends the process with one line on stderr and exit status 2."""
    sys.stderr.write(f"{prog}: {' '.join(problem.split())}\n")
    raise SystemExit(EXIT_USAGE)


def _flags(cls: type[ProcessSettings]) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in cls.model_fields]


def _config_path(arguments: list[str], prog: str) -> Path | None:
    """The value of `--config`, which is needed before the other flags are read."""
    path = os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == "--config":
            path = value if equals else next(remaining, None)
            if not path:
                fail(prog, "--config needs the path of a TOML file")
    return Path(path) if path else None


def _refuse_unknown_flags(arguments: list[str], cls: type[ProcessSettings], prog: str) -> None:
    known = [*_flags(cls), "--help"]
    negated = [f"--no-{flag[2:]}" for flag in known]
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in known and flag not in negated:
            near = difflib.get_close_matches(flag, known, n=1)
            fail(prog, f"{flag} is not a flag" + (f"; did you mean {near[0]}?" if near else ""))


def _read_file(path: Path, cls: type[ProcessSettings], prog: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        fail(prog, f"--config {path}: {error}")
    known = [flag[2:] for flag in _flags(cls) if flag != "--config"]
    for key in values:
        if key.replace("_", "-") not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            fail(prog, f"--config {path}: {key} is not a setting{hint}")
    return {key.replace("-", "_"): value for key, value in values.items()}


def _absent_elsewhere(values: dict[str, Any]) -> dict[str, Any]:
    """The values of the file that no environment variable overrides."""
    return {
        name: value
        for name, value in values.items()
        if f"{ENVIRONMENT_PREFIX}{name.upper()}" not in os.environ
    }


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # of several settings together
        return first["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
    if first["type"] == "missing":
        return f"--{name} is required"
    given = first["input"]
    shown = (
        given if isinstance(given, str) and given.isprintable() and given.strip() else repr(given)
    )
    return f"--{name} is {shown}: {first['msg'].removeprefix('Value error, ')}"

"""Downloads a model: the files that are served, and no other; a refusal is one line.

Weights come as safetensors alone. A repository often holds them twice, as pickles or in the layout
of their first author (`consolidated...`); nothing of that is fetched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from octavo.errors import (
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    invalid_field,
)
from octavo.hub.progress import DownloadProgress
from octavo.status_line import StatusLine

WANTED_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "hf_quant_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
)
UNWANTED_FILES = ("*/*", "consolidated*", "adapter*")


def download(name: str, revision: str | None, line: StatusLine) -> Path:
    """The folder of the model `name` (ORG/NAME) in the library's cache, fetched where needed.

    Without a network, or with HF_HUB_OFFLINE, what the cache holds whole is taken as it is. Raises
    OctavoError: no such model or revision, no access, no way to the hub, nothing to serve in it.
    """
    progress = DownloadProgress(line, f"downloading {name}")
    with _one_line(name, revision):
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(WANTED_FILES),
                ignore_patterns=list(UNWANTED_FILES),
                tqdm_class=progress.bar_class,
            )
        )
    progress.finish()
    _check(name, folder)
    return folder


def _check(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        what = "no config.json"
    elif not any(folder.glob("*.safetensors")):
        what = "no safetensors; pickles may run code and are never read"
    else:
        return
    raise FailedPreconditionError(f"{name} holds {what}.", reason="HUB_MODEL_UNUSABLE")


@contextlib.contextmanager
def _one_line(name: str, revision: str | None) -> Iterator[None]:
    """The library's errors as ours; its texts run over many lines."""
    try:
        yield
    except HFValidationError as error:
        raise invalid_field("--hf-model-name", name, "ORG/NAME, as the hub has it") from error
    except GatedRepoError as error:
        raise PermissionDeniedError(
            f"{name}: {_reason(error)}. A token in HF_TOKEN is who asks.", reason="HUB_MODEL_GATED"
        ) from error
    except RevisionNotFoundError as error:
        raise NotFoundError(
            f"{name} has no revision {revision!r} on the hub.", reason="HUB_REVISION_NOT_FOUND"
        ) from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(
            f"{name} is not on the hub, or is private ({_reason(error)}). A token in HF_TOKEN is "
            "who asks.",
            reason="HUB_MODEL_NOT_FOUND",
        ) from error
    except LocalEntryNotFoundError as error:
        raise UnavailableError(
            f"{name} is not whole in the cache, and the hub cannot be asked: {_cause(error)}.",
            reason="HUB_UNREACHABLE",
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError) as error:
        raise UnavailableError(f"{name}: {_reason(error)}.", reason="HUB_FAILED") from error
    except OSError as error:
        raise FailedPreconditionError(
            f"{error.filename or 'the hub cache'}: {error.strerror or error}; HF_HOME names another"
            " folder.",
            reason="HUB_CACHE_FAILED",
        ) from error


def _reason(error: Exception) -> str:
    """What the hub said, else the first line of the library's text."""
    said = getattr(error, "server_message", None) or str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _cause(error: LocalEntryNotFoundError) -> str:
    return _reason(error.__cause__) if isinstance(error.__cause__, Exception) else _reason(error)

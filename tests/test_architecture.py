"""What the contracts in pyproject.toml cannot say: processes, the wheel, names, forbidden calls."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parent.parent
_GENERATED = _REPOSITORY / "octavo" / "v1"
_VAGUE = {"util", "utils", "helper", "helpers", "common", "misc"}
# Each of them runs what a file says. safetensors and JSON hold data alone.
_FORBIDDEN_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
_FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save", "yaml.load", "os.system"}
# What a rank may import; what these need themselves comes with them.
_RANK_MAY_IMPORT = {"torch", "triton", "numpy", "safetensors", "protobuf", "structlog"}
_HEAVY = {"fastapi", "google", "grpc", "jinja2", "numpy", "pydantic", "sentencepiece", "starlette"}
_HEAVY |= {"tokenizers", "torch", "transformers", "triton"}


def sources() -> Iterator[Path]:
    """The Python files of what we run; tests and benchmarks are not shipped to anybody."""
    for part in ("octavo", "services", "gateway"):
        for path in sorted((_REPOSITORY / part).rglob("*.py")):
            if _GENERATED not in path.parents:
                yield path


def modules_after(imports: Iterable[str]) -> dict[str, str]:
    """Every module that a fresh process holds after `imports`, and its file ("" for builtins)."""
    script = "; ".join(f"import {name}" for name in imports) + (
        "; import json, sys; print(json.dumps({name: getattr(module, '__file__', None) or ''"
        " for name, module in list(sys.modules.items())}))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize("module", ["octavo", "octavo.errors", "octavo.fingerprint"])
def test_importing_octavo_imports_nothing_heavy(module: str) -> None:
    assert modules_after([module]).keys() & _HEAVY == set()


@pytest.mark.parametrize(
    "module",
    [
        "gateway.__main__",
        "octavo.cli.main",
        "octavo.client.services.worker",
        "octavo.rpc.server",
        "services.tokenizer.__main__",
        "services.worker.__main__",
        "services.worker.engine.block_allocator",
        "services.worker.engine.request",
        "services.worker.engine.scheduler",
        "services.worker.engine.step_plan",
        "services.worker.front.group",
        "services.worker.link",
        "services.worker.cpu_library.choice",
        "services.worker.memory_plan",
        "services.worker.model_config",
        "services.worker.tools.inspect.__main__",
        "services.worker.tools.perplexity.__main__",
        "services.worker.tools.quantize.__main__",
        "services.worker.stored_tensors",
    ],
)
def test_only_a_rank_imports_torch(module: str) -> None:
    assert modules_after([module]).keys() & {"torch", "triton", "transformers"} == set()


def test_a_rank_process_imports_only_what_the_design_lists() -> None:
    # All of them, because a rank says hello before it imports what is large.
    folder = _REPOSITORY / "services" / "worker" / "rank"
    names = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    loaded = modules_after([f"services.worker.rank.{name}" for name in sorted(names)])
    compiled = {name.split(".")[0] for name, file in loaded.items() if file.endswith(".so")}
    distributions = importlib.metadata.packages_distributions()
    allowed = needs_of(_RANK_MAY_IMPORT)
    foreign = {
        name
        for name in compiled - sys.stdlib_module_names
        if not allowed & {canonical(found) for found in distributions.get(name, [])}
    }
    assert not foreign, f"a rank imports native code of {foreign}"
    assert {"torch", "structlog", "services.worker.engine.engine"} <= loaded.keys()
    assert not loaded.keys() & {"grpc", "pydantic", "tokenizers", "fastapi", "transformers"}


def needs_of(names: Iterable[str]) -> set[str]:
    """The distributions `names` and all that they need."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonical(waiting.pop())
        if name in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional need, not installed here
        found.add(name)
        waiting += [re.split(r"[^\w.-]", need)[0] for need in needs if "extra ==" not in need]
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_holds_octavo_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=_REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/entry_points.txt"))
        entry_points = archive.read(metadata).decode()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"octavo"}
    assert {"octavo/py.typed", "octavo/v1/generation_pb2.pyi"} <= set(names)
    assert "octavo = octavo.cli.main:main" in entry_points


def test_no_source_runs_what_a_file_says() -> None:
    offences = {}
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = imported(tree) & _FORBIDDEN_MODULES | called(tree) & _FORBIDDEN_CALLS
        if found:
            offences[str(path.relative_to(_REPOSITORY))] = sorted(found)
    assert not offences


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def called(tree: ast.AST) -> set[str]:
    """What a file calls, as written: `eval`, `torch.load`."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_file_names_name_a_role() -> None:
    parts = ("octavo", "services", "gateway", "protos", "tests", "benchmarks", "docs")
    paths = [path for part in parts for path in (_REPOSITORY / part).rglob("*")]
    vague = [path for path in paths if path.name.split(".")[0] in _VAGUE]
    assert not vague


def test_every_folder_of_code_says_what_it_is() -> None:
    folders = {path.parent for path in sources()}
    missing = [folder for folder in folders if not (folder / "__init__.py").is_file()]
    assert not missing, f"no __init__.py in {missing}"
    silent = [folder for folder in folders if not docstring_of(folder / "__init__.py")]
    assert not silent, f"no docstring in the __init__.py of {silent}"


def docstring_of(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("part", ["octavo", "services", "gateway"])
def test_the_tests_mirror_the_tree(part: str) -> None:
    tests = _REPOSITORY / "tests"
    folders = {path.parent.relative_to(tests) for path in (tests / part).rglob("*.py")}
    assert not {folder for folder in folders if not (_REPOSITORY / folder).is_dir()}

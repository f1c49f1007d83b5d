"""The command line as a whole: help, versions, mistakes, exit statuses, and what is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo.cli.main import COMMANDS, main
from octavo.errors import ResourceExhaustedError, UnavailableError
from tests.octavo.cli.conftest import Run
from tests.octavo.client.scripted_server import ScriptedServer, chatter, refuse, say


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert "Exit statuses" in text


def test_no_sentence_of_the_list_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if line.split()[:1] and line.split()[0] in COMMANDS]
    assert len(commands) == len(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("..") for line in commands)


EXPLAINED = [command for command in COMMANDS if command != "serve"]


@pytest.mark.parametrize("command", EXPLAINED)
def test_every_command_teaches_by_examples(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capfd.readouterr().out
    examples = [line for line in text.splitlines() if f"octavo {command}" in line]
    assert "  Examples:" in text.splitlines() and len(examples) > 3


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"octavo {octavo.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("serv", "octavo: serv is not a command; did you mean serve?"),
        ("xyzzy", "octavo: xyzzy is not a command; octavo --help lists them"),
        ("--versoin", "octavo: --versoin is not a flag; did you mean --version?"),
        (
            "models --adress=x",
            "octavo models: --adress is not a flag; did you mean --address?",
        ),
        ("models --xyzzy", "octavo models: --xyzzy is not a flag; octavo models --help lists them"),
        ("models --timeout", "octavo models: option '--timeout' requires an argument"),
        ("complete", "octavo complete: missing argument 'PROMPT'"),
        ("models --address=http://a:1", 'octavo models: address is "http://a:1"'),
        ("models --timeout=0", "octavo models: timeout is 0.0; it must be a number of seconds"),
        ("models --timeout=a", 'octavo models: --timeout is "a"; it must be a valid number\n'),
        ("bench --door=x", "octavo bench: --door is \"x\"; it must be one of 'unary', 'stream'"),
        ("bench --rate=0", 'octavo bench: --rate is "0"; it must be greater than or equal to 0.0'),
        ("completion tcsh", 'octavo completion: shell is "tcsh"; it must be one of'),
        ("--install-completion", "octavo: --install-completion is not a flag"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(problem) and err.count("\n") == 1


def test_a_flag_of_serve_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--http-prot=1"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "octavo serve: --http-prot is not a flag; did you mean --http-port?\n"
    )


def test_no_server_is_status_3_and_says_what_to_do(server: ScriptedServer, run: Run) -> None:
    server.stop()
    done = run("models")
    assert (done.status, done.out) == (3, "")
    assert done.err.count("\n") == 1
    assert server.address in done.err and "--address" in done.err


@pytest.mark.parametrize(
    ("error", "status", "advice"),
    [
        (ResourceExhaustedError("Full.", retry_delay_ms=1500), 1, "Full. Try again in 1.5 s."),
        (UnavailableError("No worker.", reason="NO_WORKER"), 3, "No worker."),
    ],
)
def test_a_refusal_has_its_status(
    server: ScriptedServer, run: Run, error: octavo.OctavoError, status: int, advice: str
) -> None:
    server.script = refuse(error, times=1, then=say())
    done = run("complete", "Hi")
    assert (done.status, done.err) == (status, f"octavo complete: {advice}\n")


def test_a_timeout_is_status_4(server: ScriptedServer, run: Run) -> None:
    server.script = chatter
    done = run("complete", "Hi", "--timeout", "0.2")
    assert done.status == 4
    assert done.out.endswith("la \n")
    assert "0.2 s" in done.err


def test_a_reader_that_ends_early_ends_the_command(server: ScriptedServer) -> None:
    server.script = chatter
    command = f"{sys.executable} -m octavo complete Hi --address {server.address} | head -c 2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "la", "")


def modules_of(*arguments: str) -> set[str]:
    """What a process of the command line has imported at its end."""
    script = (
        "import json, sys; from octavo.cli.main import main; main(sys.argv[1:]);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--version"], ["chat", "--help"], ["models", "--help"], ["perplexity", "--help"]]
)
def test_what_needs_no_server_imports_no_grpc(arguments: list[str]) -> None:
    heavy = {"google.protobuf", "grpc", "pydantic_settings", "rich", "torch"}
    assert modules_of(*arguments) & heavy == set()


def test_serve_says_plainly_where_only_the_client_is(tmp_path: Path) -> None:
    package = Path(octavo.__file__).parent
    (tmp_path / "octavo").symlink_to(package)
    script = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import octavo.launcher.services as p;"
        "p.importlib.util.find_spec = lambda name: None;"
        "from octavo.cli.main import main; sys.exit(main(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "only Octavo's client is installed here" in done.stderr


@pytest.mark.parametrize(
    ("output", "problem"),
    [(">/dev/full", "the output cannot be written: No space left on device"), (">&-", "is closed")],
)
def test_output_that_cannot_be_written_is_one_line(
    server: ScriptedServer, output: str, problem: str
) -> None:
    command = f"{sys.executable} -m octavo complete Hi --address {server.address} {output}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert problem in done.stderr

"""The order of it all: prepare, start, wait, greet, watch, and stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from octavo.hub.fetch import fetch_command
from octavo.launcher import preflight
from octavo.launcher.child import Child
from octavo.launcher.commands import (
    LOOPBACK,
    Command,
    Commands,
    gateway_command,
    model_name,
    tokenizer_command,
    worker_command,
)
from octavo.launcher.errors import EXIT_FAILED, EXIT_USAGE, LaunchError
from octavo.launcher.greeting import gateway_address, greeting
from octavo.launcher.readiness import follow_loading, follow_serving, ports_of, serving
from octavo.launcher.run_folder import new_run_folder
from octavo.launcher.services import services_environment, services_root
from octavo.launcher.settings import ServeSettings
from octavo.status_line import StatusLine
from octavo.tether import tethered

_END_MARGIN_S = 5.0  # what a service may take on top of the drain
_PREPARE_END_S = 5.0
_RETRY_S = 1.0  # before a lost connection is tried again

T = TypeVar("T")


def serve(settings: ServeSettings, commands: Commands | None = None) -> int:
    """Runs `octavo serve` until a signal; the exit status. Raises LaunchError for any other end.

    `commands` replaces the services, for tests.
    """
    root = None if commands else services_root()
    preflight.check(settings)
    folder = new_run_folder(settings.log_folder)
    launcher = Launcher(settings, commands or Commands(), folder, root)
    return asyncio.run(launcher.run())


class Launcher:
    """One run of `octavo serve`."""

    def __init__(
        self, settings: ServeSettings, commands: Commands, folder: Path, root: Path | None
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._folder = folder
        self._environment = services_environment(root)
        self._screen = StatusLine(sys.stdout)
        self._children: list[Child] = []  # in the order of their start; they stop the other way
        self._served = False
        self._stopping = False
        self._killed = False
        self._preparing: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        """Starts everything and watches it; 0 after a signal, 1 after two. Raises LaunchError."""
        work = asyncio.create_task(self._start_and_watch())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, work)
        try:
            await work
        except asyncio.CancelledError:
            self._screen.show("stopping", "open requests may finish; again to stop at once")
        finally:
            await self._stop_children()
            self._screen.close()
        return EXIT_FAILED if self._killed else 0

    def _on_signal(self, work: asyncio.Task[Any]) -> None:
        if self._stopping:
            self._killed = True
            if self._preparing is not None:
                _kill(self._preparing)
            for child in self._children:
                child.kill()
        self._stopping = True
        work.cancel()

    async def _start_and_watch(self) -> NoReturn:
        model = (self._settings.model or await self._obtained_model()).absolute()
        tokenizer, worker = await self._start_inner(model)
        ports = await self._start_gateway(tokenizer, worker)
        self._served = True
        self._screen.print(
            greeting(
                model=model_name(self._settings, model),
                host=self._settings.host,
                ports=ports,
                logs=str(self._folder),
            )
        )
        await self._unless_one_ends(self._tell_of_losses(worker))
        raise AssertionError("it never ends")

    async def _tell_of_losses(self, worker: str) -> NoReturn:
        """Says when the worker group loses its ranks and when it is back, until it is cancelled."""
        while True:
            await follow_serving(worker, self._on_serving)
            await asyncio.sleep(_RETRY_S)

    def _on_serving(self, problem: str | None) -> None:
        if problem is None:
            self._screen.print("the worker serves again")
        else:
            self._screen.print(f"the worker does not serve: {problem or 'it does not say why'}")

    async def _obtained_model(self) -> Path:
        """The folder of the model that is named on the hub, or else of the default model."""
        name = self._settings.hf_model_name
        if name is None:
            return await self._folder_from(
                self._commands.prepare, "the default model cannot be prepared"
            )
        command = fetch_command(name, self._settings.hf_revision, self._commands.fetch)
        return await self._folder_from(command, f"{name} cannot be downloaded")

    async def _folder_from(self, command: Command, failure: str) -> Path:
        """What a program prints that makes a folder. Its progress goes where ours goes."""
        process = await asyncio.create_subprocess_exec(
            *tethered(command),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=sys.stdout.fileno(),
            start_new_session=True,
        )
        self._preparing = process
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            await _end(process)
            raise
        lines = output.decode().splitlines()
        self._screen.close()
        if process.returncode == EXIT_USAGE and lines:
            raise LaunchError(f"{failure}: {lines[-1]}", EXIT_USAGE)
        if process.returncode or not lines:
            how = f"its program ended with status {process.returncode}"
            raise LaunchError(f"{failure}: {how}", EXIT_FAILED)
        return Path(lines[-1])

    async def _start_inner(self, model: Path) -> tuple[str, str]:
        """Starts tokenizer and worker; their addresses."""
        self._screen.show("starting tokenizer and worker")
        files = {name: self._folder / f"{name}.ready.json" for name in ("tokenizer", "worker")}
        await self._start(
            "tokenizer",
            tokenizer_command(self._commands, self._settings, model, files["tokenizer"]),
        )
        await self._start(
            "worker", worker_command(self._commands, self._settings, model, files["worker"])
        )
        tokenizer = await self._unless_one_ends(ports_of(files["tokenizer"]))
        worker = await self._unless_one_ends(ports_of(files["worker"]))
        return f"{LOOPBACK}:{tokenizer['port']}", f"{LOOPBACK}:{worker['port']}"

    async def _start_gateway(self, tokenizer: str, worker: str) -> dict[str, int]:
        """Starts the gateway and waits until it serves, which needs the others; its ports."""
        ready_file = self._folder / "gateway.ready.json"
        command = gateway_command(
            self._commands,
            self._settings,
            tokenizer=tokenizer,
            worker=worker,
            ready_file=ready_file,
        )
        await self._start("gateway", command)
        ports = await self._unless_one_ends(ports_of(ready_file))
        show = partial(self._screen.show, "loading the model")
        loading = asyncio.create_task(follow_loading(worker, show))
        try:
            await self._unless_one_ends(serving(gateway_address(self._settings.host, ports)))
        finally:
            loading.cancel()
            await asyncio.wait([loading])
        return ports

    async def _start(self, name: str, command: list[str]) -> None:
        child = await Child.start(
            name,
            command,
            environment=self._environment,
            log=self._folder / f"{name}.log",
            on_line=self._on_line,
        )
        self._children.append(child)

    def _on_line(self, name: str, line: str) -> None:
        if self._settings.verbose:
            self._screen.print(f"[{name}] {line}")

    async def _unless_one_ends(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; LaunchError when a service ends first."""
        task = asyncio.create_task(work)
        ends = {asyncio.create_task(child.ended()): child for child in self._children}
        try:
            await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
            for end, child in ends.items():
                if end.done():
                    raise self._death(child, end.result())
            return task.result()
        finally:
            for pending in (task, *ends):
                pending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task, *ends])

    def _death(self, child: Child, status: int) -> LaunchError:
        """A service that refuses its settings says so in one line; any other end is a failure."""
        tail = child.tail
        if status == EXIT_USAGE and tail and not self._served:
            return LaunchError(_without_program(tail[-1]), EXIT_USAGE)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        lines = [f"the {child.name} ended with {how}; the last of its output ({child.log}):"]
        return LaunchError("\n  ".join([*lines, *tail]), EXIT_FAILED)

    async def _stop_children(self) -> None:
        """Gateway, worker, tokenizer: nobody loses the service that it still needs."""
        self._stopping = True
        limit_s = self._settings.drain_limit_s + _END_MARGIN_S
        for child in reversed(self._children):
            await child.stop(limit_s)


def _without_program(line: str) -> str:
    """The line in which a service refuses its settings, without the name of its program."""
    program, separator, problem = line.partition(": ")
    return problem if separator and program.startswith("python -m ") else line


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _PREPARE_END_S)
    except TimeoutError:
        _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()

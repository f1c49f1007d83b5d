"""octavo.rpc.shutdown: the first signal asks; an operator's call is none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from octavo.rpc.shutdown import Shutdown

PROGRAM = """
import asyncio, os, signal
from octavo.rpc.shutdown import Shutdown

async def main():
    await Shutdown().wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(60)

loop = asyncio.new_event_loop()
loop.call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
loop.run_until_complete(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_for_the_end(number: signal.Signals) -> None:
    waiting = asyncio.create_task(Shutdown().wait())
    await asyncio.sleep(0)
    os.kill(os.getpid(), number)
    async with asyncio.timeout(5):
        await waiting


async def test_a_signal_after_an_operators_call_is_the_first() -> None:
    shutdown = Shutdown()
    shutdown.ask()
    async with asyncio.timeout(5):
        await shutdown.wait()
    handled = asyncio.Event()
    os.kill(os.getpid(), signal.SIGTERM)
    asyncio.get_running_loop().call_later(0.01, handled.set)
    await handled.wait()  # still here


def test_a_second_signal_ends_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], timeout=30, check=False)
    assert ended.returncode == 1

"""The template helper: what templates may do, what they may not, and how it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import pytest

from octavo.errors import InvalidArgumentError, UnavailableError
from services.tokenizer.template_runner import TemplateRunner

Start = Callable[..., Awaitable[TemplateRunner]]
Helpers = Callable[[], list[psutil.Process]]

MIB = 1024 * 1024
LOOPS = "{{% for i in range(99999) %}}{{% for j in range(99999) %}}{}{{% endfor %}}{{% endfor %}}"
DOUBLED = (
    "{% set x = namespace(t='aaaaaaaa') %}"
    "{% for i in range(60) %}{% set x.t = x.t + x.t %}{% endfor %}{{ x.t | length }}"
)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts helpers; they are ended with the test."""
    runners: list[TemplateRunner] = []

    async def started(template: str, **limits: Any) -> TemplateRunner:
        defaults = {"time_limit_s": 20.0, "memory_bytes": 256 * MIB, "max_bytes": MIB}
        runner = TemplateRunner(template, **{**defaults, **limits})
        runners.append(runner)
        await runner.start()
        return runner

    yield started
    for runner in runners:
        await runner.close()


async def render(runner: TemplateRunner, variables: dict[str, Any]) -> str | None:
    (text,) = await runner.render([variables])
    return text


@pytest.fixture
def helpers() -> Helpers:
    """The processes that this test has started: those of other tests may live beside them."""
    others = {child.pid for child in psutil.Process().children()}
    return lambda: [child for child in psutil.Process().children() if child.pid not in others]


async def test_a_template_is_rendered_as_transformers_does(start: Start) -> None:
    runner = await start(
        "{% for m in messages %}\n"
        "  {% if loop.first %}{% continue %}{% endif %}\n"
        "{% generation %}{{ m | tojson }}{% endgeneration %}\n"
        "{% endfor %}"
    )
    text = await render(runner, {"messages": ["a", {"é": '<"'}]})
    assert text == '{"é": "<\\""}'


async def test_only_the_first_variables_must_render(start: Start) -> None:
    runner = await start("{{ 1 // a }}")
    assert list(await runner.render([{"a": 1}, {"a": 0}, {"a": 2}])) == ["1", None, "0"]
    with pytest.raises(InvalidArgumentError):
        await runner.render([{"a": 0}, {"a": 1}])


async def test_renders_do_not_see_each_other(start: Start) -> None:
    runner = await start("{{ a }}{{ b }}")
    texts = await asyncio.gather(render(runner, {"a": 1}), render(runner, {"b": 2}))
    assert list(texts) == ["1", "2"]


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ x.y.z }}", "undefined"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include 'x' %}", "loader"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ raise_exception('x' * 10000000) }}", "xxx"),
    ],
)
async def test_what_a_template_raises_reaches_the_user(
    start: Start, template: str, cause: str
) -> None:
    runner = await start(template)
    with pytest.raises(InvalidArgumentError, match=cause) as caught:
        await render(runner, {"messages": []})
    assert caught.value.reason == "CHAT_TEMPLATE_ERROR"
    assert len(caught.value.message) < 1_000


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * n * 10**9 }}",
        "{{ '%300000000s' % n }}",
        "{{ '{:>3000000000}'.format(n) }}",
        LOOPS.format("{{ 'x' * 99 }}"),
        "{{ range(99999) | list | string * n * 99 }}",
        DOUBLED,
    ],
)
async def test_what_needs_more_than_its_limits_is_refused(start: Start, template: str) -> None:
    runner = await start("{% if n %}" + template + "{% endif %}ok")
    with pytest.raises(InvalidArgumentError) as caught:
        await render(runner, {"n": 1})
    assert caught.value.reason == "CHAT_TEMPLATE_ERROR"
    assert await render(runner, {"n": 0}) == "ok"


@pytest.mark.parametrize(
    "template",
    [
        LOOPS.format(""),
        "{{ (10 ** (10 ** (9 * n))) % 7 }}",
    ],
)
async def test_a_template_that_takes_too_long_is_ended(start: Start, template: str) -> None:
    runner = await start("{% if n %}" + template + "{% endif %}ok", time_limit_s=0.3)
    began = time.monotonic()
    with pytest.raises(InvalidArgumentError, match=r"longer than 0\.3 s"):
        await render(runner, {"n": 1})
    assert time.monotonic() - began < 5
    assert await render(runner, {"n": 0}) == "ok"


async def test_a_large_conversation_passes(start: Start) -> None:
    runner = await start("{{ text }}")
    text = "é" * (MIB // 2)
    assert await render(runner, {"text": text}) == text
    with pytest.raises(InvalidArgumentError, match="larger than"):
        await render(runner, {"text": "é" * (MIB // 2 + 1)})


async def test_the_least_memory_that_can_be_set_is_enough(start: Start) -> None:
    runner = await start("{{ text }}", memory_bytes=64 * MIB)
    assert await render(runner, {"text": "x" * 100_000})


@pytest.mark.parametrize("template", ["{% if %}", "{{ 'a' * 10**10 }}", "{% nonsense %}"])
async def test_a_template_that_does_not_compile_costs_its_requests_only(
    start: Start, helpers: Helpers, template: str
) -> None:
    runner = await start(template)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match=r"cannot be compiled|memory"):
            await render(runner, {})
    assert len(helpers()) <= 1


async def test_a_helper_that_was_killed_gets_a_successor_that_answers(
    start: Start, helpers: Helpers
) -> None:
    runner = await start("ok")
    for _ in range(3):
        (helper,) = helpers()
        os.kill(helper.pid, signal.SIGKILL)
        assert await render(runner, {}) == "ok"


async def test_a_render_whose_helper_is_killed_again_and_again_is_not_the_users_fault(
    start: Start,
    helpers: Helpers,
) -> None:
    runner = await start(LOOPS.format(""))
    rendering = asyncio.create_task(render(runner, {}))
    killed: set[int] = set()
    async with asyncio.timeout(20):
        while not rendering.done():
            for helper in helpers():
                if helper.pid not in killed:
                    killed.add(helper.pid)
                    helper.kill()
            await asyncio.sleep(0.01)
    with pytest.raises(UnavailableError) as raised:
        await rendering
    assert raised.value.reason == "TEMPLATE_HELPER_KILLED"
    assert len(killed) == 2


async def test_a_render_that_nobody_waits_for_does_not_answer_the_next(start: Start) -> None:
    runner = await start("{% if n > 1 %}" + LOOPS.format("") + "{% endif %}{{ n }}")
    abandoned = asyncio.create_task(render(runner, {"n": 99_999}))
    await asyncio.sleep(0.05)
    abandoned.cancel()
    assert await render(runner, {"n": 1}) == "1"
    with pytest.raises(asyncio.CancelledError):
        await abandoned


async def test_nothing_is_left_after_close(start: Start, helpers: Helpers) -> None:
    runner = await start("{% if n > 1 %}" + LOOPS.format("") + "{% endif %}{{ n }}")
    assert len(helpers()) == 1
    waiting = [asyncio.create_task(render(runner, {"n": 99_999})) for _ in range(2)]
    await asyncio.sleep(0.05)
    await runner.close()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, InvalidArgumentError | UnavailableError) for error in found)
    assert not helpers()
    with pytest.raises(UnavailableError):
        await render(runner, {})

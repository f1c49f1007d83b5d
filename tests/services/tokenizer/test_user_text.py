"""Whatever users write and however a template joins it, the special ids are the template's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import InvalidArgumentError
from services.tokenizer import template_process
from services.tokenizer.backends import TokenizerBackend, load_backend
from services.tokenizer.chat_renderer import ChatRenderer, Rendered
from services.tokenizer.template_runner import TemplateRunner
from services.tokenizer.tokenizer_config import TokenizerConfig
from services.tokenizer.user_text import Structure, UserText

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Pieces of <s> and </s>, the special tokens of the checkpoint, and what a user may not forge.
BITS = st.sampled_from(
    ["<", "s", ">", "/", "</", "s>", "/s>", "<s", "<s>", "</s>", " ", "a", "\ue0f0", "\ue0f1", "0"]
)
TEXT = st.lists(BITS, max_size=6).map("".join)

PLAIN = "{% for m in messages %}{{ bos_token }}{{ m.content }}{{ eos_token }}{% endfor %}"
JOINED = "{{ bos_token }}{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"
CHANGED = [
    "{{ messages | map(attribute='content') | join('') }}",
    "<{% for m in messages %}{{ m.content }}{% endfor %}>",
    "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
    "{% for m in messages %}{{ m.content | upper | lower }}{% endfor %}",
    "{% for m in messages %}{{ m.content | replace('a', '') | replace(' ', '') }}{% endfor %}",
    "{% for m in messages %}{{ m.content[1:] }}{% endfor %}",
    "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{{ m.content | reverse }}{% endfor %}",
    "{% for m in messages %}{{ m.content.split('a') | join('') }}{% endfor %}",
    "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
    "{% for m in messages %}{{ '%s%s' | format(m.content, 's>') }}{% endfor %}",
    "{{ (messages | last).content }}/s>",
]


class InProcess:
    """Renders without a helper process."""

    def __init__(self, template: str) -> None:
        self._template = template_process._compile(template)

    async def render(self, variables: Sequence[dict[str, Any]]) -> Sequence[str | None]:
        request = {"variables": variables, "max_bytes": 2**20, "max_other_bytes": 2**20}
        return cast(
            "Sequence[str | None]", template_process._answer(self._template, request)["texts"]
        )


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return call(*arguments)


@pytest.fixture(scope="module")
def chat_l0(checkpoints: Path) -> tuple[TokenizerBackend, TokenizerConfig]:
    config = TokenizerConfig.read(checkpoints / "chat-l0")
    return load_backend(checkpoints / "chat-l0", config), config


def render(
    chat: tuple[TokenizerBackend, TokenizerConfig], template: str, *messages: dict[str, Any]
) -> Rendered:
    backend, config = chat
    runner = cast("TemplateRunner", InProcess(template))
    renderer = ChatRenderer(backend, replace(config, chat_template=template), runner, in_thread)
    return asyncio.run(renderer.render(messages, (), {}, add_generation_prompt=False))


@quick
@given(texts=st.lists(TEXT, min_size=1, max_size=3))
def test_what_stands_between_special_tokens_is_never_refused_and_comes_back(
    chat_l0: tuple[TokenizerBackend, TokenizerConfig], texts: list[str]
) -> None:
    rendered = render(chat_l0, PLAIN, *({"role": "user", "content": text} for text in texts))
    assert rendered.text == "".join(f"<s>{text}</s>" for text in texts)
    assert list(rendered.ids).count(0) == list(rendered.ids).count(1) == len(texts)
    assert chat_l0[0].decode(rendered.ids, skip_special_tokens=False) == rendered.text


@quick
@given(role=TEXT, texts=st.lists(TEXT, min_size=1, max_size=3))
def test_texts_that_meet_are_refused_or_text(
    chat_l0: tuple[TokenizerBackend, TokenizerConfig], role: str, texts: list[str]
) -> None:
    try:
        rendered = render(chat_l0, JOINED, *({"role": role, "content": text} for text in texts))
    except InvalidArgumentError:
        return
    assert rendered.text == "<s>" + "".join(role + text for text in texts)
    assert list(rendered.ids).count(0) == 1
    assert 1 not in rendered.ids


@pytest.mark.parametrize("template", CHANGED)
@quick
@given(texts=st.lists(TEXT, min_size=1, max_size=3))
def test_no_filter_brings_a_special_id_about(
    chat_l0: tuple[TokenizerBackend, TokenizerConfig], template: str, texts: list[str]
) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    try:
        rendered = render(chat_l0, template, *messages)
    except InvalidArgumentError:
        return
    assert not {0, 1} & set(rendered.ids)


def test_roles_may_be_part_of_a_template_s_own_tokens() -> None:
    """Phi-3's template makes <|user|> of a role; a role of the user's own may not do so."""
    structure = Structure(["<|user|>", "<|end|>"], [])
    assert UserText({"messages": [{"role": "user"}]}, structure).broken is None
    assert UserText({"messages": [{"role": "end"}]}, structure).broken is not None


def test_ordinary_text_costs_no_second_rendering() -> None:
    structure = Structure(["<|im_start|>", "<|im_end|>"], ["[INST]"])
    ordinary = {"messages": [{"role": "user", "content": "What is 1 + 1? (a) 2, 100 %"}]}
    assert UserText(ordinary, structure).broken is None
    for text in ("a < b", "[x]", "im_end", " end|"):
        assert UserText({"messages": [{"content": text}]}, structure).broken is not None


def test_private_characters_of_users_are_theirs(
    chat_l0: tuple[TokenizerBackend, TokenizerConfig],
) -> None:
    content = "\ue0f00\ue0f1<s>\ue0f0\ue0f2\ue0f3"
    rendered = render(chat_l0, PLAIN, {"role": "user", "content": content})
    assert rendered.text == f"<s>{content}</s>"

"""Llama 2's chat format as ids: those that are published, and the reference's turn by turn."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from octavo.errors import FailedPreconditionError, InvalidArgumentError
from services.tokenizer import llama2
from services.tokenizer.backends import TokenizerBackend, load_backend
from services.tokenizer.chat_renderer import ChatRenderer, Rendered
from services.tokenizer.template_choice import choose_template
from services.tokenizer.template_runner import TemplateRunner
from services.tokenizer.tokenizer_config import TokenizerConfig
from tests.services.tokenizer import llama2_vocabulary, vocabularies

Message = Mapping[str, str]
WRITERS: dict[str, Callable[[Path], Path]] = {
    "tokenizer.model": llama2_vocabulary.write_model,
    "tokenizer.json": llama2_vocabulary.write_excerpt_json,
    "tokenizer.json, not legacy": partial(llama2_vocabulary.write_excerpt_json, is_legacy=False),
}
# What Hugging Face's files of the chat models have had since 2023-08.
PUBLISHED_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}"
    "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
INST, END_INST = [518, 25580, 29962], [518, 29914, 25580, 29962]
SYS, END_SYS = [3532, 14816, 29903, 6778, 13], [29966, 829, 14816, 29903, 6778]
HELLO_WORLD = [15043, 3186]


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def render(
    backend: TokenizerBackend,
    dialogs: Sequence[Sequence[Message]],
    template: str = llama2.CHAT_TEMPLATE,
    *,
    add_generation_prompt: bool = True,
) -> list[Rendered]:
    """All dialogs with one helper process."""
    config = TokenizerConfig(
        tokens={"bos_token": "<s>", "eos_token": "</s>"}, chat_template=template
    )

    async def rendered() -> list[Rendered]:
        runner = TemplateRunner(template, time_limit_s=20, memory_bytes=2**28, max_bytes=2**20)
        renderer = ChatRenderer(backend, config, runner, asyncio.to_thread)
        try:
            return [
                await renderer.render(dialog, (), {}, add_generation_prompt=add_generation_prompt)
                for dialog in dialogs
            ]
        finally:
            await runner.close()

    return asyncio.run(rendered())


@pytest.mark.parametrize("template", [llama2.CHAT_TEMPLATE, PUBLISHED_TEMPLATE])
@pytest.mark.parametrize("file", list(WRITERS))
def test_the_ids_are_the_published_ones(tmp_path: Path, file: str, template: str) -> None:
    backend = load_backend(WRITERS[file](tmp_path), TokenizerConfig.read(tmp_path))
    dialogs = [
        [user("Hello world")],
        [user(" \n Hello world\n"), assistant("\tHello world "), user("Hello world")],
        # The system's text is not stripped by itself, nor is what the user's begins with.
        [system(" Hello world"), user(" Hello world \n")],
        [system(""), user("")],
    ]
    expected = [
        [1, *INST, *HELLO_WORLD, *END_INST],
        [1, *INST, *HELLO_WORLD, *END_INST, *HELLO_WORLD, 29871, 2]
        + [1, *INST, *HELLO_WORLD, *END_INST],
        [1, *INST, *SYS, *HELLO_WORLD, 13, *END_SYS, 13, 13, *HELLO_WORLD, *END_INST],
        [1, *INST, *SYS, 13, *END_SYS, *END_INST],
    ]
    assert [list(rendered.ids) for rendered in render(backend, dialogs, template)] == expected


def reference_ids(model: SentencePieceProcessor, dialog: Sequence[Message]) -> list[int]:
    """What the reference code makes of a dialog: each turn is encoded by itself."""
    messages = [dict(message) for message in dialog]
    if messages[0]["role"] == "system":
        folded = f"<<SYS>>\n{messages[0]['content']}\n<</SYS>>\n\n{messages[1]['content']}"
        messages = [{"role": "user", "content": folded}, *messages[2:]]
    ids: list[int] = []
    for question, answer in zip(messages[::2], messages[1::2], strict=False):
        turn = f"[INST] {question['content'].strip()} [/INST] {answer['content'].strip()} "
        ids += [model.bos_id(), *model.encode(turn), model.eos_id()]
    if len(messages) % 2:
        last = f"[INST] {messages[-1]['content'].strip()} [/INST]"
        ids += [model.bos_id(), *model.encode(last)]
    return ids


def random_dialogs(rng: random.Random, count: int) -> Iterator[list[Message]]:
    words = ["Hello", "naïve", "日本", "🦙", "\n", "  ", "\t", "x = 1;", "don't", "<b>", "", " "]

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randrange(6)))

    for _ in range(count):
        dialog = [system(text())] if rng.random() < 0.5 else []
        for _ in range(rng.randrange(3)):
            dialog += [user(text()), assistant(text())]
        yield [*dialog, user(text())]


def test_a_real_vocabulary_gives_the_reference_s_ids() -> None:
    path = vocabularies.sentencepiece_path(vocabularies.SENTENCEPIECE_MODELS[0])
    library = SentencePieceProcessor(model_file=str(path))
    backend = vocabularies.sentencepiece()  # later models have the tags as special tokens
    dialogs = list(random_dialogs(random.Random(0), 40))
    for template in (llama2.CHAT_TEMPLATE, PUBLISHED_TEMPLATE):
        for dialog, rendered in zip(dialogs, render(backend, dialogs, template), strict=True):
            assert list(rendered.ids) == reference_ids(library, dialog), dialog


def test_a_real_vocabulary_gives_them_from_tokenizer_json_too(tmp_path: Path) -> None:
    path = vocabularies.sentencepiece_path(vocabularies.SENTENCEPIECE_MODELS[0])
    library = SentencePieceProcessor(model_file=str(path))
    ids = {library.id_to_piece(number): number for number in range(library.get_piece_size())}
    normal = [number for number in ids.values() if number > 258]
    ranks = sorted(normal, key=lambda number: -library.get_score(number))
    merges = [
        (piece[:cut], piece[cut:])
        for piece in map(library.id_to_piece, ranks)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    backend = load_backend(llama2_vocabulary.write_json(tmp_path, ids, merges), TokenizerConfig())
    dialogs = list(random_dialogs(random.Random(1), 40))
    for dialog, rendered in zip(dialogs, render(backend, dialogs), strict=True):
        assert list(rendered.ids) == reference_ids(library, dialog), dialog


def test_a_whole_conversation_may_be_rendered_where_no_answer_follows(tmp_path: Path) -> None:
    folder = llama2_vocabulary.write_model(tmp_path)
    dialog = [user("Hello world"), assistant("Hello world")]
    (rendered,) = render(
        load_backend(folder, TokenizerConfig()), [dialog], add_generation_prompt=False
    )
    assert list(rendered.ids) == [1, *INST, *HELLO_WORLD, *END_INST, *HELLO_WORLD, 29871, 2]


@pytest.mark.parametrize(
    ("dialog", "field", "told"),
    [
        ([], "chat.messages", "without a user's"),
        ([system("x")], "chat.messages", "without a user's"),
        ([assistant("x")], "chat.messages[0].role", "user"),
        ([user("x"), user("y")], "chat.messages[1].role", "assistant"),
        ([user("x"), system("y"), user("z")], "chat.messages[1].role", "assistant"),
        ([system("x"), system("y"), user("z")], "chat.messages[1].role", "user"),
        ([system("x"), assistant("y")], "chat.messages[1].role", "user"),
        ([user("x"), {"role": "tool", "content": "y"}], "chat.messages[1].role", "assistant"),
        ([user("x"), assistant("y")], "chat.messages[1].role", "last message"),
    ],
)
@pytest.mark.parametrize("template", [llama2.CHAT_TEMPLATE, PUBLISHED_TEMPLATE])
def test_roles_out_of_turn_are_refused_by_place(
    dialog: list[Message], field: str, told: str, template: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=told) as caught:
        render(vocabularies.sentencepiece(), [dialog], template)
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize("tag", sorted(llama2.TAGS))
@pytest.mark.parametrize("place", range(3))
def test_tags_are_refused_whoever_wrote_them(tag: str, place: int) -> None:
    dialog = [system("a"), user("b"), assistant("c"), user("d")]
    dialog[place] = {**dialog[place], "content": f"x {tag} y"}
    with pytest.raises(InvalidArgumentError, match=r"holds .*SYS|holds .*INST") as caught:
        render(vocabularies.sentencepiece(), [dialog])
    assert caught.value.reason == "CHAT_TEMPLATE_TAG"


@pytest.mark.parametrize("file", list(WRITERS))
def test_special_tokens_in_content_are_text(tmp_path: Path, file: str) -> None:
    backend = load_backend(WRITERS[file](tmp_path), TokenizerConfig.read(tmp_path))
    library = SentencePieceProcessor(
        model_file=str(llama2_vocabulary.write_model(tmp_path) / "tokenizer.model")
    )
    dialog = [system("<s>"), user("a </s><s> b")]
    (rendered,) = render(backend, [dialog])
    assert (list(rendered.ids).count(1), list(rendered.ids).count(2)) == (1, 0)
    assert list(rendered.ids) == reference_ids(library, dialog)


def chosen(folder: Path, setting: str = "auto") -> str | None:
    config = TokenizerConfig.read(folder)
    return choose_template(setting, config.chat_template, folder, load_backend(folder, config))


@pytest.mark.parametrize(
    "name",
    [
        "Llama-2-70b-chat-hf-fp8",
        "llama2-7b-chat",
        "models--FriendliAI--Llama-2-70b-chat-hf-fp8/snapshots/0123",
    ],
)
def test_a_chat_model_without_template_has_this_format(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    assert chosen(llama2_vocabulary.write_model(folder)) == llama2.CHAT_TEMPLATE


def test_the_name_in_config_json_counts_too(tmp_path: Path) -> None:
    folder = llama2_vocabulary.write_excerpt_json(tmp_path)
    for text, template in [
        (json.dumps({"_name_or_path": "meta-llama/Llama-2-13b-chat-hf"}), llama2.CHAT_TEMPLATE),
        (json.dumps({"_name_or_path": "meta-llama/Llama-2-13b-hf"}), None),
        ("{", None),
        ("[]", None),
    ]:
        (folder / "config.json").write_text(text)
        assert chosen(folder) == template


def test_a_base_model_another_vocabulary_or_a_template_of_its_own_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    base, other, own = (tmp_path / name for name in ("Llama-2-7b", "llama-2-chat", "Llama-2-chat"))
    for folder in (base, other, own):
        folder.mkdir()
    assert chosen(llama2_vocabulary.write_model(base)) is None
    path = vocabularies.sentencepiece_path(vocabularies.SENTENCEPIECE_MODELS[0])
    (other / "tokenizer.model").symlink_to(path)
    assert chosen(other) is None
    (own / "chat_template.jinja").write_text("mine")
    assert chosen(llama2_vocabulary.write_model(own)) == "mine"


def test_a_template_may_be_named(tmp_path: Path) -> None:
    folder = llama2_vocabulary.write_model(tmp_path)
    (tmp_path / "a.jinja").write_text("a file's")
    assert chosen(folder, "llama-2") == llama2.CHAT_TEMPLATE
    assert chosen(folder, str(tmp_path / "a.jinja")) == "a file's"
    with pytest.raises(FailedPreconditionError, match=r"--chat-template is .*b\.jinja; it"):
        chosen(folder, str(tmp_path / "b.jinja"))

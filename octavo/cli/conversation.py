"""A conversation with a model: what was said, and the next answer."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import octavo
from octavo.cli.interruptible import interruptible


class Conversation:
    """Keeps each question with as much of its answer as came, and none that got no answer."""

    def __init__(
        self, client: octavo.Client, *, system: str | None, parameters: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._parameters = parameters
        self._system = system
        self._turns: list[octavo.Message] = []

    @property
    def messages(self) -> list[octavo.Message]:
        """All that the model is told."""
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        return [*system, *self._turns]

    def instruct(self, system: str | None) -> None:
        """Changes the system prompt; None takes it away."""
        self._system = system

    def forget(self) -> None:
        """Starts anew; the system prompt stays."""
        self._turns = []

    def ask(self, content: str) -> Generator[octavo.Event, None, None]:
        """The events of the answer. Closing it, and a Ctrl-C, stop the answer."""
        question = {"role": "user", "content": content}
        texts: list[str] = []
        parameters: Any = self._parameters
        stream = self._client.stream(messages=[*self.messages, question], **parameters)
        with stream:
            try:
                for event in interruptible(stream):
                    if isinstance(event, octavo.Delta):
                        texts.append(event.text)
                    yield event
            finally:
                if texts:
                    answer = {"role": "assistant", "content": "".join(texts)}
                    self._turns += [question, answer]

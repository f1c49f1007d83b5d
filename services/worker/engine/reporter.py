"""What the next step's output says about each request: its start, its tokens, its ends."""

from __future__ import annotations

from octavo.errors import OctavoError
from services.worker.engine.ending import timings_of
from services.worker.engine.sequence import Request, Sequence
from services.worker.engine.step_output import Finish, OutputItem
from services.worker.engine.step_result import TokenLogprob


class Reporter:
    """Collects items until a step takes them.

    A request's first item says `started` if it was scheduled by then; its last has the timings.
    """

    def __init__(self) -> None:
        self._items: list[OutputItem] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def take(self) -> tuple[OutputItem, ...]:
        """All items since the last call, in order."""
        items, self._items = tuple(self._items), []
        return items

    def refuse(self, key: int, error: OctavoError) -> None:
        """A submission that was not taken."""
        self._items.append(OutputItem(key=key, error=error))

    def progress(
        self,
        sequence: Sequence,
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        """New tokens of outputs that go on, or just that their request has started."""
        for index in sequence.indices:
            started, prompt_logprobs = self._start(sequence.request)
            if started or token_ids:
                self._items.append(
                    OutputItem(
                        key=sequence.request.key,
                        output_index=index,
                        token_ids=token_ids,
                        logprobs=logprobs,
                        started=started,
                        prompt_logprobs=prompt_logprobs,
                    )
                )

    def finish(
        self,
        sequence: Sequence,
        finish: Finish,
        now: float,
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        """The end of outputs, with their last tokens; call it once the request has lost them."""
        request = sequence.request
        for index in sequence.indices:
            started, prompt_logprobs = self._start(request)
            is_last = not request.sequences and index == sequence.indices[-1]
            self._items.append(
                OutputItem(
                    key=request.key,
                    output_index=index,
                    token_ids=token_ids,
                    logprobs=logprobs,
                    started=started,
                    prompt_logprobs=prompt_logprobs,
                    finish=finish,
                    timings=timings_of(request, now) if is_last else None,
                )
            )

    def fail(self, request: Request, error: OctavoError, now: float) -> None:
        """The end of a whole request."""
        started, _ = self._start(request)
        self._items.append(
            OutputItem(
                key=request.key, started=started, error=error, timings=timings_of(request, now)
            )
        )

    def _start(self, request: Request) -> tuple[bool, tuple[TokenLogprob, ...]]:
        """Whether the next item is the one that says `started`, and what comes with it.

        The log probabilities of a prompt are all there or none: a request that ends before its
        prompt was computed has none.
        """
        if request.is_reported or request.started_at is None:
            return False, ()
        logprobs = tuple(request.prompt_logprobs) if request.may_start else ()
        request.is_reported = True
        request.prompt_logprobs.clear()
        return True, logprobs

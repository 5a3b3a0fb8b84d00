"""A call that does not stream, repeated while that may help. No I/O."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import ConnectionLost, StreamError
from .actions import Answered, Fetch, Finish, Lost, Outcome, Silent, Waited
from .messages import REPEATED, Answer, Call, error_from_answer, unexpected
from .retry import RetryBudget, Wait
from .settings import Settings

T_co = TypeVar("T_co", covariant=True)


class CallMachine(Generic[T_co]):
    """Repeats a call while that may help; `next` and `give` as in `actions`, then `result`.

    Every call of this SDK may be repeated: those that make something carry an Idempotency-Key.
    """

    def __init__(
        self, call: Call[T_co], settings: Settings, *, rng: Callable[[], float] = random.random
    ) -> None:
        self._call = call
        self._place = settings.place
        self._retries = RetryBudget(settings.max_retries, settings.backoff, rng)
        self._action: Fetch | Wait | Finish = Fetch(call.request)
        self._answer: Answer | None = None

    def next(self) -> Fetch | Wait | Finish:
        """The next action."""
        return self._action

    def give(self, outcome: Outcome) -> None:
        """Report the outcome of the action."""
        match outcome:
            case Waited():
                self._action = Fetch(self._call.request)
            case Answered(answer):
                self._answered(answer)
            case Lost():
                self._again(outcome.error())
            case Silent():
                self._again(ConnectionLost(f"no answer in time from {self._place}"))
            case _:
                raise TypeError(f"{type(outcome).__name__} does not follow here")

    def result(self) -> T_co:
        """The answer's value, once `next` returns a Finish without an error."""
        if self._answer is None:
            raise RuntimeError("the call has no answer")
        return self._call.read(self._answer.object())

    def _answered(self, answer: Answer) -> None:
        if 200 <= answer.status < 300:
            if answer.status == 204 or answer.object() or answer.body.strip() == b"{}":
                self._answer = answer
                self._action = Finish()
            else:
                self._again(unexpected(answer))
        elif answer.status in REPEATED:
            self._again(error_from_answer(answer))
        else:
            self._fail(error_from_answer(answer))

    def _again(self, error: StreamError) -> None:
        self._action = self._retries.after(error) or Finish(error)

    def _fail(self, error: StreamError) -> None:
        self._action = Finish(error)

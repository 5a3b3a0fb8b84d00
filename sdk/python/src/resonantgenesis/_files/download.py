"""The machine of a download, over as many connections as it takes. No I/O.

Received bytes are kept. The next connection asks for the rest (`Range`) if the content has not
changed (`If-Range`); otherwise all of it is sent again. At the end the whole content is compared
with the file's SHA-256.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from .._core.actions import (
    Action,
    Answered,
    Emit,
    Ended,
    Finish,
    Lost,
    Open,
    Opened,
    Outcome,
    Read,
    Received,
    Silent,
    Waited,
)
from .._core.messages import Answer, Request, error_from_answer, unexpected
from .._core.retry import RetryBudget
from .._core.settings import Settings
from ..errors import ConnectionLost, StreamError
from ..models import File
from .calls import file_path

#: How many wrong contents end a download.
MAX_DAMAGED = 2
_DAMAGED = "the content is damaged: it is not what the server has"
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes and where they belong; an `offset` before the last one's end starts over there."""

    offset: int
    data: bytes


class DownloadMachine:
    """`next` and `give` as in `actions`; emits pieces, and finishes once they are the file."""

    def __init__(
        self, file: File, settings: Settings, *, rng: Callable[[], float] = random.random
    ) -> None:
        self._file = file
        self._etag = f'"{file.sha256}"'
        self._silence = settings.timeouts.silence
        self._retries = RetryBudget(settings.max_retries, settings.backoff, rng)
        self._at = 0
        self._hash = hashlib.sha256()
        self._damaged = 0
        self._piece: Piece | None = None
        self._action: Action[Piece] = self._open()

    @property
    def offset(self) -> int:
        """How many bytes are there; the next connection goes on behind them."""
        return self._at

    def next(self) -> Action[Piece]:
        """The next action; a piece is handed out once."""
        piece, self._piece = self._piece, None
        return self._action if piece is None else Emit(piece)

    def give(self, outcome: Outcome) -> None:
        """Report the outcome of the action."""
        try:
            self._action = self._follow(outcome)
        except StreamError as error:
            wait = self._retries.after(error) if error.retryable else None
            self._action = wait or Finish(error)

    def _follow(self, outcome: Outcome) -> Action[Piece]:
        match outcome:
            case Opened(headers, status):
                return self._opened(Answer(status, headers))
            case Received(data):
                return self._received(data)
            case Waited():
                return self._open()
            case Ended():
                raise ConnectionLost("the content ended too early")
            case Lost():
                raise outcome.error()
            case Silent():
                raise ConnectionLost("nothing came in time")
            case Answered(answer):
                return self._refused(answer)

    def _open(self) -> Action[Piece]:
        # Packed, its parts would not be those of the content; and redirections are not followed.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        headers["Prefer"] = "return=representation"
        if self._at:
            headers |= {"Range": f"bytes={self._at}-", "If-Range": self._etag}
        path = f"{file_path(self._file.id)}/content"
        return Open(Request("GET", path, headers=headers, stream=True, binary=True))

    def _opened(self, answer: Answer) -> Action[Piece]:
        headers = answer.headers
        if headers.get("etag", self._etag) != self._etag or "content-encoding" in headers:
            raise unexpected(answer)
        if answer.status == 200:
            self._start_over()
        elif not self._is_the_rest(headers.get("content-range", "")):
            self._start_over()
            raise unexpected(answer)
        return self._more()

    def _is_the_rest(self, content_range: str) -> bool:
        match = _CONTENT_RANGE.fullmatch(content_range)
        size = self._file.size
        rest = [self._at, size - 1, size]
        return match is not None and [int(number) for number in match.groups()] == rest

    def _received(self, data: bytes) -> Action[Piece]:
        if self._at + len(data) > self._file.size:
            raise self._damage("the content is damaged: it is longer than the file")
        if data:
            self._piece = Piece(self._at, data)
            self._hash.update(data)
            self._at += len(data)
            self._retries.progress()
        return self._more()

    def _more(self) -> Action[Piece]:
        if self._at < self._file.size:
            return Read(self._silence)
        if self._hash.hexdigest() != self._file.sha256:
            raise self._damage(_DAMAGED)
        return Finish()

    def _refused(self, answer: Answer) -> Action[Piece]:
        if answer.status == 416:
            self._start_over()
            raise ConnectionLost("the server has no such part")
        raise error_from_answer(answer)

    def _start_over(self) -> None:
        self._at = 0
        self._hash = hashlib.sha256()

    def _damage(self, reason: str) -> ConnectionLost:
        self._start_over()
        self._damaged += 1
        return ConnectionLost(reason, retryable=self._damaged < MAX_DAMAGED)


class BytesInOrder:
    """The bytes of a download, each once: bytes that are sent again are left out."""

    def __init__(self, file: File) -> None:
        self.taken = 0
        self._sha256 = file.sha256
        self._hash = hashlib.sha256()

    def take(self, piece: Piece) -> bytes:
        """The new bytes of a piece; empty if it has none."""
        block = piece.data[max(0, self.taken - piece.offset) :]
        self.taken += len(block)
        self._hash.update(block)
        return block

    def check(self) -> None:
        """Compare all bytes with the file's SHA-256. Raises ConnectionLost."""
        if self._hash.hexdigest() != self._sha256:
            raise ConnectionLost(_DAMAGED, retryable=False)

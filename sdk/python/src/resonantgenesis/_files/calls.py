"""Calls about files, and the machine of an upload. No I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from .._core.call_machine import CallMachine
from .._core.messages import Answer, Call, Request, error_from_answer, new_key, query, segment
from .._core.settings import Settings
from ..errors import Conflict, StreamError
from ..models import File, Page

PATH = "/v1/files"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def file_path(file_id: str) -> str:
    return f"{PATH}/{segment(file_id)}"


def get_file(file_id: str) -> Call[File]:
    return Call(Request("GET", file_path(file_id)), File)


def list_files(session_id: str | None, limit: int | None, cursor: str | None) -> Call[Page[File]]:
    params = query(session_id=session_id, limit=limit, cursor=cursor)
    return Call(Request("GET", PATH, params), lambda raw: Page(raw, File))


def delete_file(file_id: str) -> Call[None]:
    return Call(Request("DELETE", file_path(file_id)), lambda _: None)


def upload_file(
    name: str,
    *,
    size: int | None,
    content_type: str | None,
    checksum: str | None,
    subject: str | None,
    key: str | None,
) -> Call[File]:
    """Repeatable by its key, made up if not given. Raises ValueError for a bad checksum."""
    headers = {"Idempotency-Key": key or new_key()}
    if size is not None:
        headers["Content-Length"] = str(size)
    if content_type is not None:
        headers["Content-Type"] = content_type
    if checksum is not None:
        headers["Content-Digest"] = _digest(checksum)
    params = query(name=name, subject=subject)
    return Call(Request("POST", PATH, params, headers=headers, binary=True), File)


class UploadMachine(CallMachine[File]):
    """Repeats an upload while that may help and its content can be read again."""

    def __init__(
        self, call: Call[File], settings: Settings, can_repeat: Callable[[], bool]
    ) -> None:
        super().__init__(call, settings)
        self._can_repeat = can_repeat

    def _answered(self, answer: Answer) -> None:
        error = error_from_answer(answer) if answer.status == 409 else None
        if isinstance(error, Conflict) and error.retry_after is not None:
            self._again(error)  # an attempt before this one is just being recorded
        else:
            super()._answered(answer)

    def _again(self, error: StreamError) -> None:
        if self._can_repeat():
            super()._again(error)
        else:
            self._fail(error)


def _digest(checksum: str) -> str:
    if _SHA256.fullmatch(checksum) is None:
        raise ValueError("checksum must be a SHA-256 in hexadecimal, 64 digits")
    return f"sha-256=:{base64.b64encode(bytes.fromhex(checksum)).decode()}:"

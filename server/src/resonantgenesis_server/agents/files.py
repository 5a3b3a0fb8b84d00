"""Files as an agent sees them: stored during a turn, handed over in a tool_result."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..model.errors import AgentError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that can be downloaded by its id; `size` in bytes, `sha256` in hexadecimal."""

    file_id: str
    name: str
    content_type: str
    size: int
    sha256: str

    def as_result(self) -> dict[str, Any]:
        """What a tool_result says of it, for clients to fetch and to show."""
        return asdict(self)


class TurnFiles(Protocol):
    """The files of a turn.

    What is stored belongs to the session, and to its subject: both see it, and it goes when the
    session goes. A file exists whole or not at all. Names are 1 to 255 characters without a path
    (ValueError); without `content_type` the name's ending decides. A turn stores at most 100 files,
    and no more bytes in all than one file may have: beyond, and where a file cannot be stored now,
    AgentError, which tells the client so. After the turn's end everything raises RuntimeError.
    """

    async def store(
        self,
        name: str,
        content: bytes | AsyncIterable[bytes],
        content_type: str | None = None,
    ) -> StoredFile:
        """Durable when this returns. An iterable is read as fast as the disk takes it."""
        ...

    def store_from_thread(
        self, name: str, content: bytes, content_type: str | None = None
    ) -> StoredFile:
        """`store` for agents that are plain functions and so run in a thread."""
        ...

    async def get(self, file_id: str) -> StoredFile:
        """A file that the session's subject sees; without a subject, one of the organization.
        Raises AgentError when there is none."""
        ...

    def read(self, file_id: str) -> AsyncIterator[bytes]:
        """Its content, in pieces of at most 256 KiB. Raises as `get` does."""
        ...


class NoFiles:
    """For a turn outside a server."""

    async def store(
        self,
        name: str,
        content: bytes | AsyncIterable[bytes],
        content_type: str | None = None,
    ) -> StoredFile:
        raise _none()

    def store_from_thread(
        self, name: str, content: bytes, content_type: str | None = None
    ) -> StoredFile:
        raise _none()

    async def get(self, file_id: str) -> StoredFile:
        raise _none()

    async def read(self, file_id: str) -> AsyncIterator[bytes]:
        raise _none()
        yield b""


def _none() -> AgentError:
    return AgentError("this turn has no place for files")


NO_FILES: TurnFiles = NoFiles()

"""`client.files`, synchronous."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from .._core.actions import Emit, Finish, Lost, Open, Outcome, Read, Wait, Waited
from .._files.calls import Progress, UploadMachine, delete_file, get_file, list_files, upload_file
from .._files.download import DownloadMachine, Piece
from .._files.local import Content, SyncSource, Target, readable
from ..errors import ConnectionLost
from ..models import File, Page
from .transport import SyncConnection, SyncTransport


class SyncFiles:
    """Files, of any size in constant memory; see AsyncFiles."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def upload(
        self,
        source: SyncSource,
        *,
        name: str | None = None,
        content_type: str | None = None,
        checksum: str | None = None,
        subject: str | None = None,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> File:
        """Stores a file, whole or not at all; see AsyncFiles.upload."""
        found = readable(source)
        content = Content(name or found.name, found.size, found.rewinds, on_progress)
        call = upload_file(
            content.name,
            size=content.size,
            content_type=content_type,
            checksum=checksum,
            subject=subject,
            key=idempotency_key,
        )
        machine = UploadMachine(call, self._transport.settings, content.can_repeat)
        made = self._transport.run(machine, lambda: content.blocks(found.blocks()))
        if made.sha256 != content.sha256:
            self.delete(made.id)
            raise ConnectionLost("what the server stored is not what was sent")
        return made

    def download(
        self,
        file_id: str,
        to: str | os.PathLike[str],
        *,
        on_progress: Progress | None = None,
    ) -> Path:
        """Saves a file's content, and returns where; see AsyncFiles.download."""
        file = self.get(file_id)
        target = Target(to, file.name)
        try:
            for piece in self._pieces(file):
                target.write(piece.offset, piece.data)
                if on_progress is not None:
                    on_progress(piece.offset + len(piece.data), file.size)
            target.keep()
        finally:
            target.discard()
        return target.path

    def get(self, file_id: str) -> File:
        """What a file is, without its content."""
        return self._transport.call(get_file(file_id))

    def list(
        self,
        *,
        session_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[File]:
        """One page of files, newest first; those of one session, if it is named."""
        return self._transport.call(list_files(session_id, limit, cursor))

    def delete(self, file_id: str) -> None:
        """Deletes a file."""
        self._transport.call(delete_file(file_id))

    def _pieces(self, file: File) -> Iterator[Piece]:
        machine = DownloadMachine(file, self._transport.settings)
        connection: SyncConnection | None = None
        outcome: Outcome
        try:
            while True:
                action = machine.next()
                if isinstance(action, Emit):
                    yield action.item
                    continue
                if isinstance(action, Finish):
                    if action.error is not None:
                        raise action.error
                    return
                if isinstance(action, Read) and connection is not None:
                    outcome = connection.read(action.timeout)
                else:
                    if connection is not None:
                        connection.close()
                    outcome, connection = self._reach(action)
                machine.give(outcome)
        finally:
            if connection is not None:
                connection.close()

    def _reach(self, action: object) -> tuple[Outcome, SyncConnection | None]:
        if isinstance(action, Open):
            return self._transport.open(action.request)
        if isinstance(action, Wait):
            time.sleep(action.seconds)
            return Waited(), None
        return Lost("closed"), None

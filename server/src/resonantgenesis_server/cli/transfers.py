"""Files up and down for the commands, through cuts: sent again whole, resumed where they broke."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx

from .answers import check, json_object, network_error
from .backoff import BackOff, Notice, is_retryable
from .errors import CliError, NetworkError

FILES = "/v1/files"
_BLOCK = 256 * 1024
#: Seconds: a server that syncs a large file to its disk may need a while for its answer.
_SEND = httpx.Timeout(120.0, connect=5.0)
_RECEIVE = httpx.Timeout(30.0, connect=5.0)

#: Told how many bytes have gone through since the beginning.
Moved = Callable[[int], object]


def file_path(file_id: str) -> str:
    return f"{FILES}/{quote(file_id, safe='')}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is uploaded. `size` None: read to its end, and only once."""

    file: BinaryIO
    name: str
    size: int | None
    content_type: str | None = None
    subject: str | None = None


class Transfers:
    """Raises CliError, with what to do next, for whatever goes wrong."""

    def __init__(self, http: httpx.Client, url: str, patience: float, notice: Notice) -> None:
        self._http = http
        self._url = url
        self._patience = patience
        self._notice = notice

    def upload(self, outgoing: Outgoing, moved: Moved) -> dict[str, Any]:
        """The file that was made, once however often it had to be sent."""
        back_off = BackOff(self._patience, self._notice)
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if outgoing.size is not None:
            headers["Content-Length"] = str(outgoing.size)
        if outgoing.content_type is not None:
            headers["Content-Type"] = outgoing.content_type
        was_reached = False
        while True:
            try:
                return self._send(outgoing, headers, moved)
            except CliError as error:
                # A server that was never there is told at once, as by every other command.
                was_reached |= not isinstance(error.__cause__, httpx.ConnectError)
                if not was_reached or outgoing.size is None or not is_retryable(error):
                    raise
                back_off.wait(error, "connection lost, sending it again")
                outgoing.file.seek(0)

    def _send(self, outgoing: Outgoing, headers: dict[str, str], moved: Moved) -> dict[str, Any]:
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            sent = 0
            while block := outgoing.file.read(_BLOCK):
                digest.update(block)
                sent += len(block)
                yield block
                moved(sent)

        asked = {"name": outgoing.name, "subject": outgoing.subject}
        params = {name: value for name, value in asked.items() if value is not None}
        try:
            response = self._http.post(
                FILES, params=params, headers=headers, content=blocks(), timeout=_SEND
            )
        except httpx.HTTPError as error:
            raise network_error(self._url, error) from error
        check(response)
        made = json_object(response)
        if made.get("sha256") != digest.hexdigest():
            raise CliError(
                f"the server stored something else than was sent; delete {made.get('id')} and try"
                " again"
            )
        return made

    def download(self, file: dict[str, Any], into: BinaryIO, moved: Moved) -> None:
        """Write the content of `file`, as the server describes it, once and in order."""
        back_off = BackOff(self._patience, self._notice)
        incoming = _Incoming(file, into, moved)
        while not incoming.whole:
            before = incoming.got
            try:
                self._receive(incoming)
                problem: CliError = NetworkError("the download broke off; try again")
            except httpx.HTTPError as error:
                problem = network_error(self._url, error)
            except CliError as error:
                if not is_retryable(error):
                    raise
                problem = error
            if incoming.got > before:
                back_off.worked()
            if not incoming.whole:
                back_off.wait(problem, "connection lost, trying again")
        incoming.check()

    def _receive(self, incoming: _Incoming) -> None:
        """What one connection brings."""
        path = f"{file_path(incoming.id)}/content"
        with self._http.stream(
            "GET", path, headers=incoming.headers(), timeout=_RECEIVE
        ) as response:
            if not response.is_success:
                response.read()
            check(response)
            incoming.begin(response)
            for block in response.iter_raw():
                incoming.take(block)


class _Incoming:
    """A file on its way down."""

    def __init__(self, file: dict[str, Any], into: BinaryIO, moved: Moved) -> None:
        self.id = str(file["id"])
        self.got = 0
        self._size = int(file["size"])
        self._sha256 = str(file["sha256"])
        self._into = into
        self._moved = moved
        self._hash = hashlib.sha256()
        self._skip = 0

    @property
    def whole(self) -> bool:
        return self.got >= self._size

    def headers(self) -> dict[str, str]:
        # Packed, its parts would not be those of the content.
        headers = {"Accept-Encoding": "identity"}
        if self.got:
            headers |= {"Range": f"bytes={self.got}-", "If-Range": f'"{self._sha256}"'}
        return headers

    def begin(self, response: httpx.Response) -> None:
        """Raises NetworkError for an answer that cannot be the content."""
        if response.status_code == 206:
            place = f"bytes {self.got}-{self._size - 1}/{self._size}"
            fits = response.headers.get("Content-Range") == place
        else:
            # Everything anew: what is here already is passed over.
            self._skip = self.got
            fits = response.headers.get("Content-Length") == str(self._size)
        if not fits or "Content-Encoding" in response.headers:
            raise NetworkError(f"{response.url.host} sent something else than the file")

    def take(self, block: bytes) -> None:
        """The next bytes."""
        passed = min(self._skip, len(block))
        self._skip -= passed
        block = block[passed:]
        if block:
            self._into.write(block)
            self._hash.update(block)
            self.got += len(block)
            self._moved(self.got)

    def check(self) -> None:
        """Raises NetworkError when what came is not what the server has."""
        if self._hash.hexdigest() != self._sha256:
            raise NetworkError("the download is damaged; try again")

"""The beginning of a process that serves: of the only one, or of a worker.

`python -P -m resonantgenesis_server.workers.main FD`: FD is the worker's end of a socket to its
parent, which has the worker's instructions first. The worker drains when the parent's end is
closed in any way.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ..logging.startup import StartupError

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..http.serving.shared_listener import SharedListener
    from ..http.serving.worker_place import WorkerPlace

log_ = structlog.get_logger("resonantgenesis.workers")

#: Bytes read at once.
_READ = 4096


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around the imports of a start. Raises StartupError for libraries that do not fit."""
    # Nothing that an import makes is garbage. Looking for garbage took a fifth of its time, and
    # each later look would begin with all of it.
    gc.disable()
    try:
        yield
        gc.freeze()
    except ImportError as error:
        if error.name is not None:  # a module is missing or broken: its traceback tells which
            raise
        raise StartupError(str(error)) from None  # from http/dependencies.py, one line
    finally:
        gc.enable()


def serve_here(
    arguments: Mapping[str, Any],
    config: Path | None,
    worker: WorkerPlace | None = None,
    loaded_settings: Callable[[Settings, Path | None], None] = lambda _settings, _config: None,
) -> int:
    """Serve in this process until a signal; returns the exit code.

    `loaded_settings` is called before anything of the server is opened. Raises StartupError.
    """
    with importing():
        from .. import serve
        from ..config.load import load_settings
    loaded = load_settings(arguments, config)
    settings = loaded.settings
    loaded_settings(settings, loaded.file)
    if worker is not None and settings.store and not settings.files:
        # Several processes share the directory, so none of them may tidy it as its own.
        settings = settings.model_copy(update={"files": str(settings.data / "files")})
    return serve.serve(settings, loaded.file, worker)


class ParentLink:
    """A worker's end of the socket to its parent. The parent's lines are `go` (where the worker
    waits for it), `stop`, and `ended NODE` (a process has ended that was this node)."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._listener: SharedListener | None = None
        self._told = False
        self._text = b""
        self._ended: Callable[[int], None] = lambda _node: None

    def instructions(self) -> dict[str, Any]:
        """What the parent wrote first. Raises EOFError if it has died."""
        with self._link.makefile("rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return dict(json.loads(line))

    def place(self, given: Mapping[str, Any]) -> WorkerPlace:
        from ..http.serving.listener import Listener
        from ..http.serving.shared_listener import ConnectionCounts, Sharing
        from ..http.serving.shared_memory import SharedPages
        from ..http.serving.worker_place import WorkerPlace

        for name in ("counts", "pages", "listener"):
            os.set_inheritable(given[name], False)
        os.set_inheritable(self._link.fileno(), False)
        sharing = Sharing(ConnectionCounts(given["counts"]), given["place"], self._accepts)
        bound = socket.socket(fileno=given["listener"])
        bound.setblocking(False)
        listener = Listener(bound, given["url"], sharing)
        pages = SharedPages(given["pages"])
        return WorkerPlace(given["number"], given["place"], listener, pages, self._joined)

    def send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, which is noticed where it is read
            self._link.sendall(json.dumps(message).encode() + b"\n")

    def wait(self) -> None:
        """Wait until the parent lets the worker go on. Raises EOFError if it has died."""
        while (byte := self._link.recv(1)) != b"\n":
            if not byte:
                raise EOFError

    def _joined(self, node: int, ended: Callable[[int], None]) -> None:
        """Called on the event loop when the worker is a node."""
        self._ended = ended
        self._hear()
        self.send(node=node)

    def _accepts(self, listener: SharedListener) -> None:
        """Called on the event loop when the worker accepts connections."""
        self._listener = listener
        self._hear()
        self.send(ready=True)

    def _hear(self) -> None:
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link, self._read)

    def _read(self) -> None:
        try:
            data = self._link.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._heard(line.decode())
        if data:
            return
        asyncio.get_running_loop().remove_reader(self._link)
        if self._listener is not None:
            self._listener.close()  # the next server may need the port
        if not self._told:
            log_.error("the parent of this worker has died; the worker drains")
            self._stop()

    def _heard(self, line: str) -> None:
        word, _, node = line.partition(" ")
        if word == "ended":
            self._ended(int(node))
        else:
            self._stop()

    def _stop(self) -> None:
        """The first time drains, the second stops at once."""
        self._told = True
        signal.raise_signal(signal.SIGTERM)


def main() -> int:
    # The parent says when to stop: Ctrl-C is for it.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    link = ParentLink(socket.socket(fileno=int(sys.argv[1])))
    try:
        given = link.instructions()
    except (EOFError, OSError):
        return 1
    config = given["config"]

    def loaded(settings: Settings, file: Path | None) -> None:
        """Say what was read, and wait until the worker before this one has ended."""
        from . import reload

        read_at = time.time_ns()
        files = [] if file is None else [str(file.absolute())]
        try:
            reload.load(settings, file)
        finally:
            link.send(files=[*files, *reload.sources()], read_at=read_at)
        link.send(loaded=True)
        link.wait()

    try:
        arguments = given["arguments"]
        place = link.place(given)
        if given["reload"]:
            return serve_here(arguments, config and Path(config), place, loaded)
        return serve_here(arguments, config and Path(config), place)
    except StartupError as error:
        link.send(failed=str(error), code=error.exit_code)
        return error.exit_code
    except EOFError:
        return 1


if __name__ == "__main__":
    sys.exit(main())

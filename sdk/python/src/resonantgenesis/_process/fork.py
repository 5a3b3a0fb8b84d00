"""State that a fork must not share: connections, and locks that another thread may hold.

After a fork the child has copies of both. Two processes that read from one connection get each
other's answers, and a lock that was held at the fork is never released in the child. Each process
therefore makes its own objects at first use, and never touches inherited ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One `T` for each process; the first is made at once."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # A dict's operations are atomic; a lock could be held at a fork.
        self._made = {os.getpid(): make()}

    def get(self) -> T:
        """This process's object, made at its first use."""
        process = os.getpid()
        mine = self._made.get(process)
        if mine is None:
            mine = self._made.setdefault(process, self._make())
            for other in [one for one in self._made if one != process]:
                leave(self._made.pop(other, None))
        return mine

    @property
    def made(self) -> bool:
        """Whether this process has made its object."""
        return os.getpid() in self._made


class Owned:
    """An object that belongs to the process that made it."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def inherited(self) -> bool:
        """Whether it came from the parent by a fork."""
        return self._process != os.getpid()


def leave(*things: object) -> None:
    """Keep inherited objects from ever being finalised here.

    An HTTP library's generators take its locks when they end; an event loop's transports remove
    the parent's epoll entries.
    """
    for thing in things:
        _kept.append(thing)
        # The list goes when the interpreter ends; a reference that nobody has does not.
        if _ctypes is not None:
            _ctypes.pythonapi.Py_IncRef(_ctypes.py_object(thing))


def _with_references() -> Any:
    """The module that counts references by hand; None where Python was built without it, or
    counts none."""
    try:
        module = import_module("ctypes")
    except ImportError:
        return None
    return module if hasattr(module, "pythonapi") else None


_ctypes = _with_references()
_kept: list[object] = []

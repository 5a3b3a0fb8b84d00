"""Memory that the processes of one server share: their parent makes it, each inherits it."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from zlib import crc32

#: Before the bytes of a page: how many there are, and their checksum.
_HEAD = struct.Struct("<II")
#: Bytes of a page. The system gives memory to those alone that are written.
_PAGE = 256 * 1024
#: Tries to read a page while its process writes it.
_TRIES = 5


def shared_memory(name: str, content: bytes) -> int:
    """The descriptor of new memory that begins with this; it has to be inherited."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.write(descriptor, content)
    return descriptor


class SharedPages:
    """A page of bytes for each process, which it alone writes and all read."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)

    @staticmethod
    def create(places: int) -> int:
        """The descriptor of the memory, with empty pages."""
        descriptor = shared_memory("pages", b"")
        os.ftruncate(descriptor, places * _PAGE)
        return descriptor

    def write(self, place: int, content: bytes) -> None:
        """Raises ValueError if the content is larger than a page."""
        if len(content) > _PAGE - _HEAD.size:
            raise ValueError(f"{len(content)} bytes are more than a page holds")
        start = place * _PAGE + _HEAD.size
        self._memory[start : start + len(content)] = content
        _HEAD.pack_into(self._memory, place * _PAGE, len(content), crc32(content))

    def clear(self, place: int) -> None:
        """Also for a process that is gone."""
        self.write(place, b"")

    def read(self, but: int) -> list[bytes]:
        """What all other processes have written last. A page that is written all the time that it
        is read is left out."""
        places = (place for place in range(len(self._memory) // _PAGE) if place != but)
        return [content for place in places if (content := self._read(place))]

    def _read(self, place: int) -> bytes | None:
        for _ in range(_TRIES):
            length, checksum = _HEAD.unpack_from(self._memory, place * _PAGE)
            start = place * _PAGE + _HEAD.size
            content = self._memory[start : start + length]
            if crc32(content) == checksum:
                return content
        return None

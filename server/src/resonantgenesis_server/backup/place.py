"""A place for the backups of one store: blobs, and a manifest for each backup.

A manifest is written last and names every blob of its backup. So a backup is whole, or it is not
there. Content of files lies there once, whatever the number of backups that have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from ..datadir.snapshot import LOG, RECORDS
from ..files.base import Blobs
from ..files.documents import Documents
from ..records.base import StoreError

FORMAT = 1
#: Small files of the data directory that belong to a backup. The lock and .gitignore do not.
SMALL = ("secret", "api-key", "clock")
#: The document that keeps which files a backup under way has copied already.
_UNFINISHED = "unfinished"


class BackupRefused(StoreError):
    """A backup that cannot be made, found or restored; the message says what to do."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One file of the data directory: the name of its blob, its digest (SHA-256), its bytes."""

    blob: str
    digest: str
    size: int

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> KeptFile:
        """Raises TypeError, ValueError, KeyError for what is no part."""
        return cls(str(said["blob"]), str(said["digest"]), int(said["size"]))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `files`: by digest, the content of uploaded files. `streams`
    and `entries`: of the log."""

    name: str
    made_at: str
    program: str
    epoch: str
    streams: int
    entries: int
    parts: Mapping[str, KeptFile]
    files: Mapping[str, KeptFile] = field(default_factory=dict)

    def blobs(self) -> Iterator[str]:
        return (part.blob for part in (*self.parts.values(), *self.files.values()))

    def encode(self) -> bytes:
        return orjson.dumps({"format": FORMAT, **asdict(self)}, option=orjson.OPT_INDENT_2)

    @classmethod
    def decode(cls, name: str, content: bytes) -> Manifest:
        """Raises BackupRefused."""
        try:
            values: dict[str, Any] = orjson.loads(content)
            format_ = int(values.pop("format"))
            if format_ > FORMAT:
                raise BackupRefused(
                    f"backup {name} has format {format_}, this program reads up to {FORMAT}; use"
                    " a newer program"
                )
            for group in ("parts", "files"):
                values[group] = {key: KeptFile.of(part) for key, part in values[group].items()}
            _check_names(values["parts"].keys())
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackupRefused(
                f"the manifest of backup {name} is damaged; take another backup"
            ) from error


def _check_names(parts: Collection[str]) -> None:
    """A name becomes a path below the data directory, and a restore without a database would make
    an empty one. Raises ValueError."""
    needed = {LOG, RECORDS}
    if not needed <= set(parts) <= needed.union(SMALL):
        raise ValueError("the parts are not those of a data directory")


@dataclass(frozen=True, slots=True)
class BackupPlace:
    """Everything raises BlobError. `where`: as the user wrote it."""

    where: str
    blobs: Blobs
    documents: Documents

    async def names(self) -> list[str]:
        """Of all backups, oldest first."""
        return [name for name in await self.documents.names() if name[:1].isdigit()]

    async def find(self, name: str | None = None) -> Manifest:
        """This backup, or the newest. Raises BackupRefused."""
        names = await self.names()
        if not names:
            raise BackupRefused(f"there is no whole backup in {self.where}")
        if name is not None and name not in names:
            there = ", ".join(names[-5:])
            raise BackupRefused(
                f"there is no backup {name[:80]!r} in {self.where}; the newest are {there}"
            )
        chosen = name or names[-1]
        content = await self.documents.read(chosen)
        return Manifest.decode(chosen, content or b"")

    async def begin(self) -> None:
        """To be called before anything is written. Raises BackupRefused for a place with blobs of
        somebody else, e.g. of a server: `remove_old` would take them for its own."""
        if await self.documents.names():
            return
        async for name in self._names_of_blobs(0):
            raise BackupRefused(
                f"{self.where} has content that is of no backup ({name[:16]}…); name another place"
            )
        await self.note({})

    async def known_files(self) -> dict[str, KeptFile]:
        """Content that lies here, by digest: of the newest backup, and of one that broke off."""
        known: dict[str, KeptFile] = {}
        with contextlib.suppress(BackupRefused):
            known |= (await self.find()).files
        content = await self.documents.read(_UNFINISHED)
        if content is not None:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                known |= {key: KeptFile.of(part) for key, part in orjson.loads(content).items()}
        if not known:
            return known
        there = {name async for name in self._names_of_blobs(0)}
        return {digest: part for digest, part in known.items() if part.blob in there}

    async def note(self, files: Mapping[str, KeptFile]) -> None:
        """Keep which files lie here already, for the case that the backup breaks off."""
        content = orjson.dumps({digest: asdict(part) for digest, part in files.items()})
        await self.documents.write(_UNFINISHED, content)

    async def add(self, manifest: Manifest) -> None:
        """From now on the backup is there."""
        await self.documents.write(manifest.name, manifest.encode())
        await self.documents.remove(_UNFINISHED)

    async def remove_old(self, keep: int, abandoned: float) -> int:
        """Remove all but the newest `keep` backups; their number. Blobs of no backup go with them,
        and those that a process left over `abandoned` seconds ago."""
        old = (await self.names())[:-keep]
        spare: set[str] = set()
        for name in old:
            with contextlib.suppress(BackupRefused):
                spare.update((await self.find(name)).blobs())
            await self.documents.remove(name)
        spare.update([name async for name in self._names_of_blobs(abandoned)])
        for name in await self.names():
            spare.difference_update((await self.find(name)).blobs())
        await self.blobs.remove(sorted(spare))
        await self.blobs.clear(abandoned)
        return len(old)

    async def close(self) -> None:
        await self.blobs.close()

    async def _names_of_blobs(self, older: float) -> AsyncIterator[str]:
        async for batch in self.blobs.batches(older):
            for name in batch:
                yield name

"""`resonantgenesis organizations export`: all that an organization has, in a folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer
from rich.console import Console

from .. import values
from ..client import items, open_client
from ..errors import CliError, broken_off, using_file
from ..options import Data, Url, to_stderr
from ..render import show_line
from ..target import Target, find_target, is_loopback

if TYPE_CHECKING:
    from resonantgenesis import SyncResonantGenesis

#: Seconds of silence of an export, and seconds that the key of another organization is valid.
_SILENCE, _KEY_SECONDS = 60.0, 86_400
_ALL = 1 << 40


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if missing.")],
    organization: Annotated[
        str | None,
        typer.Option(
            parser=values.identifier, help="Another organization; needs the bootstrap key."
        ),
    ] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Write all that an organization has into a folder: sessions, events, audit log, files, agents,
    teams, webhooks, keys without their secrets, usage. Run it again after a break: what is there
    and has not changed since is not fetched again."""
    target = find_target(url, data)
    with using_file(folder), _within(target, organization) as (client, inside):
        counts = _Export(client, inside, folder).run()
    shown = ", ".join(f"{count} {name}" for name, count in counts.items())
    show_line(Console(), f"exported to {folder}: {shown}")


@contextlib.contextmanager
def _within(
    target: Target, organization: str | None
) -> Iterator[tuple[SyncResonantGenesis, Target]]:
    """A client of the organization. For another one a key is made, and revoked at the end."""
    with open_client(target) as client:
        if organization is None:
            yield client, target
            return
        key = client.organizations.create_key(
            organization, "export", ["*"], expires_in=_KEY_SECONDS
        ).raw
    inside = Target(target.url, key["key"])
    with open_client(inside) as client:
        try:
            yield client, inside
        finally:
            client.keys.revoke(key["id"])


class _Export:
    """Each file of the folder is put in its place once it is whole."""

    def __init__(self, client: SyncResonantGenesis, target: Target, folder: Path) -> None:
        self._client = client
        self._target = target
        self._folder = folder

    def run(self) -> dict[str, int]:
        """The counts by kind."""
        client, counts = self._client, {}
        for name in ("", "sessions", "files"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        counts["sessions"] = self._sessions()
        counts["files"] = self._files()
        for name, listed in (
            ("agents", client.agents.list),
            ("teams", client.teams.list),
            ("webhooks", client.webhooks.list),
            ("keys", client.keys.list),
            ("turns of usage", partial(client.usage.report, "turn", since="1970-01-01")),
        ):
            counts[name] = self._list(name.rpartition(" ")[2], listed)
        self._fetch("/v1/events/export", self._folder / "events.jsonl")
        self._fetch("/v1/events/export?audit=true", self._folder / "audit.jsonl")
        return counts

    def _sessions(self) -> int:
        """Those that have changed since they were exported are fetched anew."""
        count = 0
        for session in items(self._client.sessions.list, _ALL):
            path = self._folder / "sessions" / f"{session['session_id']}.jsonl"
            if not _is_as(path, session):
                self._fetch(f"/v1/sessions/{session['session_id']}/export", path)
            count += 1
            if count % 100 == 0:
                to_stderr(f"{count} sessions")
        return count

    def _files(self) -> int:
        """A file never changes, so one that is there is as it was."""
        found = list(items(self._client.files.list, _ALL))
        for file in found:
            path = self._folder / "files" / str(file["id"])
            if not path.exists():
                self._client.files.download(file["id"], path)
        self._write("files", found)
        return len(found)

    def _list(self, name: str, listed: Callable[..., Any]) -> int:
        found = list(items(listed, _ALL))
        self._write(name, found)
        return len(found)

    def _write(self, name: str, lines: list[dict[str, Any]]) -> None:
        with _replacing(self._folder / f"{name}.jsonl") as draft:
            draft.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")

    def _fetch(self, path: str, to: Path) -> None:
        """Write the answer to a file. Raises CliError."""
        url = self._target.url
        headers = {"Authorization": f"Bearer {self._target.key}"}
        try:
            with (
                httpx.stream(
                    "GET",
                    f"{url}{path}",
                    headers=headers,
                    timeout=_SILENCE,
                    trust_env=not is_loopback(url),
                ) as answer,
                _replacing(to) as draft,
            ):
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return  # deleted meanwhile
                if not answer.is_success:
                    is_refused = answer.status_code == httpx.codes.FORBIDDEN
                    todo = "use a key with the scope *" if is_refused else "run the export again"
                    raise CliError(f"{path} answers {answer.status_code}; {todo}")
                with draft.open("wb") as file:
                    for block in answer.iter_bytes():
                        file.write(block)
        except httpx.HTTPError as error:
            raise broken_off(url, str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A draft that takes the file's place at the end of the block, if it was written."""
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        if draft.exists():
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _is_as(path: Path, session: dict[str, Any]) -> bool:
    """Whether the exported session is the one in the list, and no turn of it runs."""
    if not path.exists() or session["status"] in {"running", "queued", "waiting"}:
        return False
    with path.open("rb") as file:
        try:
            kept = json.loads(file.readline())
        except ValueError:  # damaged
            return False
    return isinstance(kept, dict) and kept.get("updated_at") == session["updated_at"]

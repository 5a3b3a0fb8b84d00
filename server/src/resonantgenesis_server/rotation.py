"""Another secret in the place of the server's, while every node goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from .agents.engines.http.endpoint import EndpointRecords
from .background import Background
from .calls import CALL_SECONDS, Calls
from .log.base import LogError
from .model.errors import Conflict
from .records.base import Actor, StoreError
from .records.credentials import (
    CredentialHasher,
    SecretFile,
    ServerSecret,
    keep_secrets,
    new_secret,
)
from .records.server_secret import ServerSecretRepository, UnusedKeys

log_ = structlog.get_logger("resonantgenesis.secret")

#: Seconds between two looks at which secret the records name.
_LOOK = 1.0
_VERB = "secret"


@dataclass(frozen=True, slots=True)
class SecretReport:
    """`id` of the current secret, in use `since` (None: since the store was made), the number of
    `former` ones, the id of the one that is `coming`, and the keys that a former one still holds.
    """

    id: str
    since: float | None
    former: int
    coming: str | None
    unused: UnusedKeys


class SecretRotation:
    """Follows the records in which secret is in use, and changes it.

    A rotation makes a secret the current one that every node knows already. The nodes notice within
    a second, or as soon as they are told. Every method may raise `StoreError`.
    """

    def __init__(
        self,
        secrets: ServerSecretRepository,
        hasher: CredentialHasher,
        file: SecretFile | None,
        calls: Calls | None,
        forget: Callable[[], None],
    ) -> None:
        """`forget` drops what is remembered of credentials."""
        self._secrets = secrets
        self._hasher = hasher
        self._file = file
        self._calls = calls
        self._forget = forget
        self._changing = asyncio.Lock()
        self._loop = Background("secret", self._follow)
        if calls is not None:
            calls.handlers[_VERB] = self._asked

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def report(self) -> SecretReport:
        await self._refresh()
        state, hasher = await self._secrets.state(), self._hasher
        former = max(len(state.checks) - 1, 0)
        unused = await self._secrets.unused(hasher.current) if former else UnusedKeys()
        coming = None if hasher.coming is None else hasher.coming.id
        since = state.since if state.number > 1 else None
        return SecretReport(hasher.current.id, since, former, coming, unused)

    async def rotate(self, actor: Actor) -> SecretReport:
        """Make the coming secret the current one; where the server keeps its secret itself, make
        one. Raises `Conflict`."""
        async with self._changing:
            await self._learn()
            if (await self.report()).former:
                raise Conflict("the former secret is still in use; retire it first")
            new = self._hasher.coming or await self._make()
            await self._tell_or_refuse(new)
            endpoints = EndpointRecords(lambda: [new.derive, *self._hasher.derives()])
            await self._secrets.rotate(new, self._hasher.current, endpoints.resealed, actor)
            await self._changed()
        return await self.report()

    async def retire(self, actor: Actor) -> UnusedKeys:
        """End the former secret: keys that were not used since are revoked, and tokens that it
        signed end. Returns those keys. Raises `Conflict`."""
        async with self._changing:
            await self._refresh()
            current = self._hasher.current
            endpoints = EndpointRecords(self._hasher.derives)
            unused = await self._secrets.retire(current, endpoints.resealed, actor)
            await self._changed()
            if self._file is not None and self._file.is_own:
                # One that stays in the file opens nothing any more: the records know its end.
                await asyncio.to_thread(keep_secrets, self._file.path, [current.value])
        return unused

    async def _make(self) -> ServerSecret:
        """A new secret, durable in the file before anything is made with it."""
        if self._file is None or not self._file.is_own:
            raise Conflict(
                "there is no new secret: put one in front of the one in use, with a blank between"
                " them, into RESONANTGENESIS_SECRET or its file on every node"
            )
        values = [new_secret(), self._hasher.current.value]
        await asyncio.to_thread(keep_secrets, self._file.path, values)
        await self._learn()
        await self._refresh()
        return ServerSecret(values[0])

    async def _tell_or_refuse(self, new: ServerSecret) -> None:
        """Raises `Conflict` unless all other nodes know the secret, or find it in their file."""
        if self._calls is None:
            return
        others = len(self._calls.others)
        answers = await self._calls.ask_all(_VERB, {"id": new.id}, seconds=CALL_SECONDS)
        if unaware := others - answers.count(True):
            raise Conflict(f"{unaware} other nodes do not know the new secret yet")

    async def _changed(self) -> None:
        """Have all nodes look at once; who does not hear it looks within a second."""
        await self._refresh()
        self._forget()
        if self._calls is not None:
            with contextlib.suppress(LogError):
                await self._calls.tell_all(_VERB, {"id": self._hasher.current.id})

    async def _asked(self, args: Mapping[str, Any]) -> bool:
        if not self._hasher.knows(args["id"]):
            await self._learn()
        await self._refresh()
        return self._hasher.knows(args["id"])

    async def _learn(self) -> None:
        """Read the file again. One that is unusable changes nothing."""
        if self._file is not None:
            try:
                self._hasher.learn(await asyncio.to_thread(self._file.read))
            except StoreError as error:
                log_.error("the secrets stay as they were", reason=str(error))

    async def _refresh(self) -> bool:
        """Use the secret that the records name; whether this process knows it."""
        state = await self._secrets.state()
        if self._hasher.choose(state.checks, state.retired):
            return True
        await self._learn()
        return self._hasher.choose(state.checks, state.retired)

    async def _follow(self) -> None:
        is_well = True
        while True:
            with contextlib.suppress(StoreError):
                before = self._hasher.current
                knows = await self._refresh() and not self._hasher.lacks_former
                if is_well and not knows:
                    log_.error(
                        "a secret in use is not known here: keys and tokens that were made with it"
                        " do not work at this node; give it all secrets in use and restart it"
                    )
                if before is not self._hasher.current:
                    log_.info("another secret is in use", id=self._hasher.current.id)
                is_well = knows
            await self._loop.woken(_LOOK)

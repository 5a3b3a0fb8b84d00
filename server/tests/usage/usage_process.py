"""A program in which turns end, killed by its own hand at a place that is named.

    usage_process.py FOLDER PLACE NTH TURNS MONTHLY_TOKENS

Each turn takes 10 tokens and is told to standard output once it is durable. PLACE (`none`: it ends
in order, once everything is written and told):

counted     the log has a turn's end; nothing else knows of it
reading     a page of the log was read, at the start
writing     a row is in a transaction that is not committed
written     the records have it; this process does not know yet
telling     the limit is reached; nobody was told
told        the log tells that it is reached; the records do not
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from resonantgenesis_server import usage as usage_module
from resonantgenesis_server.budget import Budget
from resonantgenesis_server.records.database import RecordsDatabase
from sqlalchemy.ext.asyncio import AsyncConnection
from usage_support import Stores, ending

_AT_ONCE = 4


class Killer:
    """Kills the process the how many-th time that it is called."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def after(function: Callable[..., Any], kill: Killer) -> Callable[..., Any]:
    def wrapped(*args: Any, **more: Any) -> Any:
        result = function(*args, **more)
        kill()
        return result

    return wrapped


def after_awaiting(function: Callable[..., Awaitable[Any]], kill: Killer) -> Callable[..., Any]:
    async def wrapped(*args: Any, **more: Any) -> Any:
        result = await function(*args, **more)
        kill()
        return result

    return wrapped


def before_commit(kill: Killer) -> Callable[..., Any]:
    write = RecordsDatabase.write

    @asynccontextmanager
    async def wrapped(database: RecordsDatabase) -> AsyncIterator[AsyncConnection]:
        async with write(database) as connection:
            yield connection
            kill()

    return wrapped


async def end_turns(stores: Stores, names: list[str]) -> None:
    for name in names:
        await stores.log.append(*ending(stores.organization, name, 1, 10))
        os.write(1, name.encode() + b"\n")


async def main(folder: Path, place: str, nth: int, turns: int, monthly_tokens: int) -> None:
    stores = Stores(folder, monthly_tokens)
    kill = Killer(nth)
    usage_module._GATHER = 0.001
    usage_module._PAGE = 20
    if place == "counted":
        usage_module.row_of = after(usage_module.row_of, kill)  # type: ignore[attr-defined]
    if place == "telling":
        usage_module._reached = after(usage_module._reached, kill)
    if place == "told":
        Budget.written = after(Budget.written, kill)  # type: ignore[method-assign]
    await stores.open(load=False)
    if place == "reading":
        stores.log.read = after_awaiting(stores.log.read, kill)  # type: ignore[method-assign]
    if place == "writing":
        RecordsDatabase.write = before_commit(kill)  # type: ignore[method-assign]
    if place == "written":
        stores.usage.take_in = after_awaiting(  # type: ignore[method-assign]
            stores.usage.take_in, kill
        )
    await stores.meter.load()
    stores.meter.start()
    names = [f"sess_{os.getpid()}_{n}" for n in range(turns)]
    await asyncio.gather(*(end_turns(stores, names[n::_AT_ONCE]) for n in range(_AT_ONCE)))
    while stores.meter.budget.due():
        await asyncio.sleep(0.001)
    await stores.close()


if __name__ == "__main__":
    asyncio.run(
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    )

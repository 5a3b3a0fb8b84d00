"""A node that appends to its own streams and to those that all share, until it is killed.

outbox_process.py URL NAME OUTPUT ORGANIZATIONS
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from resonantgenesis_server.log.base import Append, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog

SESSIONS = 5


async def produce(log: PostgresLog, name: str, output: int, organizations: int) -> None:
    number = 0
    while True:
        number += 1
        stream = f"events:o{random.randrange(organizations)}"
        text = f"{name}.{number}"
        entries = [NewEntry("m", text.encode(), f"{text}.{part}") for part in "ab"]
        await log.append(Append(name, [NewEntry("m", stream.encode())]), Append(stream, entries))
        # One write(2), so that a kill cuts none.
        os.write(output, f"{stream} {text}\n".encode())


async def main(url: str, name: str, output: int, organizations: int) -> None:
    log = await PostgresLog.open(url, beat_seconds=0.1, ttl=1.0)
    await asyncio.gather(
        *(produce(log, f"{name}.{n}", output, organizations) for n in range(SESSIONS))
    )


if __name__ == "__main__":
    file = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asyncio.run(main(sys.argv[1], sys.argv[2], file, int(sys.argv[4])))

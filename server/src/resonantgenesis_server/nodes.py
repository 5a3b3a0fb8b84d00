"""The nodes of the store, as an operator sees them: what each says of itself, asked of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from .background import Background
from .calls import Calls

log_ = structlog.get_logger("resonantgenesis.nodes")

_VERB = "describe"


@dataclass(frozen=True, slots=True)
class Load:
    """What a node has to do: turns that run and that wait, streams and sockets that are open."""

    running_turns: int
    queued_turns: int
    open_streams: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node that lives. `started_at` in seconds since 1970, by its own clock; `last_seen`: seconds
    since its beat was seen. A node that has not answered in time has no start and no load."""

    id: str
    name: str
    version: str
    last_seen: float
    started_at: float | None = None
    load: Load | None = None


class OtherNode(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


class LivingNodes(Protocol):
    """See `log/postgres/nodes.py`."""

    @property
    def id(self) -> int: ...
    @property
    def others(self) -> Mapping[int, OtherNode]: ...
    def last_seen(self, node: int) -> float: ...


def node_id(number: int) -> str:
    """The id of a node on the wire."""
    return f"node_{number}"


class NodeDirectory:
    """Tells of this node, and of the others of its store if there can be some."""

    def __init__(
        self,
        own: NodeStatus,
        load: Callable[[], Load],
        nodes: LivingNodes | None = None,
        calls: Calls | None = None,
        files: str | None = None,
    ) -> None:
        """`files`: the place of the content of files, if it is known."""
        self._files = files
        self._own = own
        self._load = load
        self._nodes = nodes
        self._calls = calls
        self._asking = Background("nodes' files", self._compare_files)
        if calls is not None:
            calls.handlers[_VERB] = self._describe

    def start(self) -> None:
        """Say so once, in the log, if other nodes have their files elsewhere. Of two such nodes the
        later one finds it."""
        self._asking.start()

    async def close(self) -> None:
        await self._asking.close()

    async def list(self) -> list[NodeStatus]:
        """Every node that lives, the oldest first. Waits for the answers of the others for half a
        second at most. Raises LogUnavailable."""
        own, load, nodes = self._own, self._load(), self._nodes
        if nodes is None or self._calls is None:
            return [NodeStatus(own.id, own.name, own.version, 0.0, own.started_at, load)]
        answers = {said["id"]: said for said in await self._calls.ask_all(_VERB, {})}
        found = {
            nodes.id: NodeStatus(
                own.id, own.name, own.version, nodes.last_seen(nodes.id), own.started_at, load
            )
        }
        for number, other in tuple(nodes.others.items()):
            said = answers.get(node_id(number))
            found[number] = NodeStatus(
                node_id(number),
                other.name,
                other.version,
                nodes.last_seen(number),
                None if said is None else said["started_at"],
                None if said is None else Load(**said["load"]),
            )
        return [found[number] for number in sorted(found)]

    async def _describe(self, _args: Mapping[str, Any]) -> dict[str, Any]:
        started_at, load = self._own.started_at, asdict(self._load())
        return {"id": self._own.id, "started_at": started_at, "load": load, "files": self._files}

    async def _compare_files(self) -> None:
        if self._calls is None or self._files is None:
            return
        answers = await self._calls.ask_all(_VERB, {})
        nodes = [said["id"] for said in answers if said.get("files") not in {None, self._files}]
        if nodes:
            log_.warning(
                "other nodes have their files elsewhere, and nobody finds those of the others; give"
                " all nodes the same `files`",
                nodes=sorted(nodes),
            )

"""Tool calls that a server of chat completions sends in pieces.

OpenAI gives each call an `index`, and its id and name once. Other servers leave out one or two of
these, give all calls one index, repeat id and name with every piece, or make a new id each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .....codec.json import NotJson, dumps
from ..calls import CallRequest, ModelFailure
from . import MAX_EVENT
from .texts import mended

#: Tool calls in one answer, and places (`index`) that are named.
MAX_CALLS = 128
#: Fields of a piece that are read here. All other fields are the server's own.
_READ = frozenset({"index", "id", "type", "function", "name", "arguments", "parameters"})


@dataclass(slots=True)
class _Piece:
    """The content of one piece; None or "" for absent fields."""

    place: int | None
    call_id: str
    tool: str
    arguments: str
    extras: dict[str, Any]

    @property
    def is_bare(self) -> bool:
        """True if the piece does not say which call it belongs to."""
        return not self.tool and not self.call_id


@dataclass(slots=True, eq=False)
class _Calling:
    """A call that is still being written."""

    place: int | None
    call_id: str = ""
    tool: str = ""
    parts: list[str] = field(default_factory=list)
    size: int = 0
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    def is_whole(self) -> bool:
        """True if the arguments are a JSON object, which nothing can continue."""
        if not self.parts or not self.parts[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(orjson.loads(self.arguments), dict)
        except orjson.JSONDecodeError:
            return False

    def takes_up(self, arguments: str) -> bool:
        """True if `arguments` may continue these arguments, and do not begin a new object."""
        return not (arguments.lstrip().startswith("{") and self.is_whole())

    def add(self, piece: _Piece) -> None:
        self.call_id = self.call_id or piece.call_id
        self.tool = self.tool or piece.tool
        self.extras |= piece.extras
        if not piece.arguments or (piece.call_id and piece.arguments == self.arguments):
            return  # nothing, or the whole call once more
        if self.parts == ["{}"]:  # stood for arguments that follow
            self.parts, self.size = [], 0
        self.parts.append(piece.arguments)
        self.size += len(piece.arguments)
        if self.size > MAX_EVENT:
            raise ModelFailure("unreadable", f"arguments of over {MAX_EVENT} characters")


class CallAssembler:
    """Joins the calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Calling] = []
        self._places: dict[int, _Calling] = {}
        self._ids: dict[str, _Calling] = {}
        self._last: _Calling | None = None

    def __bool__(self) -> bool:
        return bool(self._calls) and bool(self._finished())

    def add(self, pieces: Sequence[Any]) -> None:
        """Add the pieces of one delta. Raises AttributeError for a value that is no piece."""
        named: list[_Calling] = []
        for given in pieces:
            piece = _read(given)
            call = self._continued(piece, named) or self._new(piece)
            call.add(piece)
            self._note(call, piece)
            if piece.tool:
                named.append(call)

    def requests(self) -> list[CallRequest]:
        return [
            CallRequest(
                mended(call.call_id) or f"call_{number}",
                mended(call.tool),
                mended(call.arguments).strip(),
            )
            for number, call in enumerate(self._finished())
        ]

    def extras(self) -> list[dict[str, Any]]:
        """The extra fields of each call, in the order of `requests`."""
        return [call.extras for call in self._finished()]

    # -- inside ----------------------------------------------------------------------------

    def _finished(self) -> list[_Calling]:
        before = [None, *self._calls]
        return [
            call
            for call, last in zip(self._calls, before, strict=False)
            if _is_call(call) and not _is_echo(call, last)
        ]

    def _continued(self, piece: _Piece, named: Sequence[_Calling]) -> _Calling | None:
        """The call that a piece continues; None for a new call.

        `named` are the calls that this delta has named: a delta names no call twice.
        """
        known = self._ids.get(piece.call_id) if piece.call_id else None
        if known is not None:
            is_twice = piece.tool and known in named
            return known if _is_same(known, piece) and not is_twice else None
        if piece.place is None or (piece.place not in self._places and piece.is_bare):
            call = self._last  # also for arguments that go on at a place that no call has
        else:
            call = self._places.get(piece.place)
        if call is None or (piece.tool and call in named):
            return None
        return call if _goes_on(call, piece) else None

    def _new(self, piece: _Piece) -> _Calling:
        if len(self._calls) >= MAX_CALLS:
            raise ModelFailure("unreadable", f"more than {MAX_CALLS} tool calls")
        self._calls.append(_Calling(piece.place))
        return self._calls[-1]

    def _note(self, call: _Calling, piece: _Piece) -> None:
        self._last = call
        if piece.call_id:
            self._ids[piece.call_id] = call
        if piece.place is not None:
            self._places[piece.place] = call
            if len(self._places) > MAX_CALLS:
                raise ModelFailure("unreadable", f"more than {MAX_CALLS} tool calls")


def _is_call(call: _Calling) -> bool:
    return bool(call.tool or call.parts)


def _is_echo(call: _Calling, last: _Calling | None) -> bool:
    """True if only the name of the last call came once more, behind its arguments."""
    if last is None or call.parts or not last.parts or call.call_id not in {"", last.call_id}:
        return False
    return call.tool == last.tool and call.place == last.place


def _is_same(call: _Calling, piece: _Piece) -> bool:
    """True if a piece with the id of the call belongs to it: some servers give all calls one id."""
    if piece.tool and call.tool and piece.tool != call.tool:
        return False
    if piece.tool and piece.place != call.place and None not in {piece.place, call.place}:
        return False
    if not piece.tool or (piece.arguments and piece.arguments == call.arguments):
        return True
    return call.takes_up(piece.arguments) and bool(piece.arguments or not call.is_whole())


def _goes_on(call: _Calling, piece: _Piece) -> bool:
    """True if a piece without the id of the call, at its place or at none, belongs to it."""
    if piece.call_id and call.call_id:
        return _is_renamed(call, piece)
    if not piece.tool or not call.tool:
        return True
    if piece.tool != call.tool or not call.takes_up(piece.arguments):
        return False
    return bool(piece.arguments) or not call.is_whole()


def _is_renamed(call: _Calling, piece: _Piece) -> bool:
    """True if a piece with another id continues the call: some servers make an id each time."""
    if not piece.tool:
        return bool(call.tool) and not (call.is_whole() and not piece.arguments)
    is_unfinished = bool(call.parts) and not call.is_whole()
    return piece.tool == call.tool and bool(piece.arguments) and is_unfinished


def _read(given: Mapping[str, Any]) -> _Piece:
    function = given.get("function")
    extras = {name: value for name, value in given.items() if name not in _READ and value}
    if isinstance(function, dict):
        inner = {name: value for name, value in function.items() if name not in _READ and value}
        if inner:
            extras["function"] = inner
    else:
        function = given
    return _Piece(
        _place(given.get("index")),
        _name(given.get("id")),
        _name(function.get("name")),
        _arguments(function.get("arguments", function.get("parameters"))),
        extras,
    )


def _place(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _name(value: object) -> str:
    """An id or a name; some servers write the word null for none."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value).strip()
    return "" if text.lower() in {"null", "none"} else text


def _arguments(value: object) -> str:
    """The arguments as text; an object is written as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return dumps(value).decode()
    except NotJson as error:
        raise ModelFailure("unreadable", f"arguments of a tool call: {error}") from error

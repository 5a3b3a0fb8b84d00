"""Whether a request asks for a WebSocket as RFC 6455 wants it, and what it is told if not."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from starlette.types import Scope
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ...model.errors import ApiError, InvalidRequest, NotFound, UpgradeRequired
from ..cors import HeaderList
from ..errors import error_body, error_headers, method_not_allowed
from ..exchange import announces_body

#: From a request's headers to its id, and to what every answer to it says.
HeadersFor = Callable[[HeaderList], tuple[str, HeaderList]]

VERSION = "13"
#: What a request must say; proxies that are not told otherwise leave both out.
_ASKING = (("Upgrade", "websocket"), ("Connection", "Upgrade"))


def handshake_error(headers: Iterable[tuple[bytes, bytes]]) -> ApiError | None:
    """Why a GET with these headers opens no socket; None if it does."""
    fields: dict[str, list[str]] = {}
    for name, value in headers:
        fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    missing = [
        name for name, wanted in _ASKING if wanted.lower() not in _words(fields.get(name.lower()))
    ]
    if missing:
        return _no_upgrade(missing)
    key = fields.get("sec-websocket-key", [])
    if len(key) != 1 or not _is_key(key[0]):
        return _Malformed.field("Sec-WebSocket-Key", "is 16 bytes in base64, once")
    if fields.get("sec-websocket-version") != [VERSION]:
        return UpgradeRequired.field("Sec-WebSocket-Version", f"is {VERSION}, once")
    return None


def not_taken(scope: Scope) -> ApiError:
    """Why a request whose headers are those of a handshake opens no socket all the same."""
    if scope["http_version"] != "1.1":
        return UpgradeRequired(
            "this path is a WebSocket, and the request came in HTTP/1.0, which cannot become one;"
            " let the proxy in between speak HTTP/1.1 (nginx: proxy_http_version 1.1)"
        )
    if announces_body(scope):
        return _Malformed("a WebSocket handshake has no body")
    if any(n == b"upgrade" and v.lower() != b"websocket" for n, v in scope["headers"]):
        return UpgradeRequired.field("Upgrade", "is websocket and nothing else, once")
    return NotFound("this server takes no sockets")


class _Malformed(InvalidRequest):
    """A handshake that is none."""

    status = 400


def _no_upgrade(missing: list[str]) -> UpgradeRequired:
    named = " and ".join(f"{name}: {value}" for name, value in _ASKING if name in missing)
    return UpgradeRequired(
        f"this path is a WebSocket, and the request came without {named};"
        " connect with a WebSocket client, and let proxies in between pass both headers on",
        details={"missing": missing},
    )


def _words(values: list[str] | None) -> set[str]:
    return {word.strip().lower() for value in values or () for word in value.split(",")}


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 16
    except ValueError:
        return False


class Handshaking(ServerProtocol):
    """The library's protocol, which refuses handshakes in the form of all our errors."""

    def __init__(self, headers_for: HeadersFor, **options: Any) -> None:
        """`headers_for`: an id for the request, and the headers that go with any answer to it."""
        super().__init__(**options)
        self._headers_for = headers_for

    def accept(self, request: Request) -> Response:
        headers = [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "surrogateescape"))
            for name, value in request.headers.raw_items()
        ]
        error = handshake_error(headers) if request.method == "GET" else _only_get()
        if error is None:
            response = super().accept(request)
            if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                return response
            error = _Malformed("the request is no WebSocket handshake; see RFC 6455, section 4.1")
        request_id, more = self._headers_for(headers)
        return _answer(error, request_id, more)


def _only_get() -> ApiError:
    return method_not_allowed({"GET"})


def _answer(error: ApiError, request_id: str, more: HeaderList) -> Response:
    body = error_body(error, request_id)
    own = error_headers(error)
    also = own.pop("Connection", None)
    found = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in more])
    found.update(own)
    found["Connection"] = "close" if also is None else f"{also}, close"
    found["Content-Type"] = "application/json"
    found["Content-Length"] = str(len(body))
    status = HTTPStatus(error.status)
    return Response(status.value, status.phrase, found, body)

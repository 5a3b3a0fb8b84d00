"""The libraries whose private parts we use, and the minor versions that we tested.

A new minor version may change these parts without a word. So the import of `http` checks the
versions, and server/pyproject.toml has the same bounds. The parts are:

- uvicorn, `http/serving/websocket_protocol.py`: `WebSocketsSansIOProtocol` with its fields and its
  handlers of events, `ClientDisconnected`
- uvicorn, `http/serving/run.py` and `acceptor.py`: the call of the setting `http`, `Server`'s
  `capture_signals`, `startup`, `shutdown`, `lifespan`, `should_exit` and `force_exit`,
  `ServerState`, `Config.loaded_app` and `Config.ws_protocol_class`
- FastAPI: `iter_route_contexts` and `route_class_override`; limits: `storage.timer`
"""

from __future__ import annotations

from importlib.metadata import version

#: Library → the minor version that was tested; a test holds these to server/pyproject.toml.
TESTED = {"fastapi": "0.165", "uvicorn": "0.54"}


def check_dependencies() -> None:
    """Raise ImportError if a library has another minor version than the one that was tested."""
    for library, tested in TESTED.items():
        installed = version(library)
        if installed.split(".")[:2] != tested.split("."):
            raise ImportError(
                f"this server needs {library} {tested}.*, but {installed} is installed;"
                f" run: pip install '{library}=={tested}.*'"
            )

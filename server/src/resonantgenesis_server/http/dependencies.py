"""The libraries whose private parts we use, and the minor versions that we tested.

`http/serving` subclasses uvicorn's protocols and sets their fields; `http/app.py` walks FastAPI's
route contexts. A new minor version may change either without a word. So the import of
`http` checks the versions, and server/pyproject.toml has the same bounds.
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

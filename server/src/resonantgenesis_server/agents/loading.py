"""Finding the callable that a reference `MODULE:ATTRIBUTE` names."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

from .base import Turn


class AgentLoadError(Exception):
    """A reference does not lead to an agent. The message is one line and says why."""


#: Files that a traceback goes through before it comes to a module that is imported.
_NOBODYS = frozenset({__file__, importlib.__file__})
#: Where modules are looked for before the current directory.
_beside: list[str] = []


def look_beside(file: Path) -> None:
    """Look for modules beside this configuration file, which names them."""
    _beside[:] = [str(file.expanduser().absolute().parent)]


def find(reference: str) -> Callable[[Turn], object]:
    """The callable of `reference`: a function, an object's `run` or `__call__`.

    A class is instantiated without arguments. The module may lie beside the configuration file or
    in the current directory, which come before everything else on Python's path, as with
    `python -m`. Raises `AgentLoadError`.
    """
    function = _callable(reference, attribute_of(reference))
    _check_signature(reference, function)
    return function


def attribute_of(reference: str) -> object:
    """The object that `MODULE:ATTRIBUTE` names. Imports the module. Raises `AgentLoadError`."""
    module_name, _, attribute = reference.partition(":")
    if not _is_dotted(module_name) or not _is_dotted(attribute) or module_name.endswith(".py"):
        hint = "the module's name without .py" if ".py" in module_name else "e.g. my_agent:answer"
        raise AgentLoadError(f"agent {reference!r}: write it as MODULE:ATTRIBUTE ({hint})")
    return _attribute(reference, _import(reference, module_name), attribute)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _import(reference: str, name: str) -> ModuleType:
    places = [*_beside, str(Path.cwd())]
    sys.path[:0] = [place for place in dict.fromkeys(places) if place not in sys.path]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise AgentLoadError(
                f"agent {reference!r}: no module {exc.name!r} in"
                f" {', '.join(dict.fromkeys(places))} or on Python's path"
            ) from exc
        raise _failed(reference, f"importing {name!r}", exc) from exc
    except (Exception, SystemExit) as exc:  # whatever a module does when it is imported
        raise _failed(reference, f"importing {name!r}", exc) from exc


def _attribute(reference: str, module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        if not hasattr(found, name):
            owner = found.__name__ if isinstance(found, ModuleType | type) else path
            raise AgentLoadError(f"agent {reference!r}: {owner!r} has no attribute {name!r}")
        found = getattr(found, name)
    return found


def _callable(reference: str, found: object) -> Callable[[Turn], object]:
    if isinstance(found, type):
        kind = found
        try:
            found = kind()
        except Exception as exc:  # whatever a constructor does
            raise _failed(reference, f"making a {kind.__name__}", exc) from exc
    if inspect.isroutine(found) or isinstance(found, functools.partial):
        return cast("Callable[[Turn], object]", found)
    for name in ("run", "__call__"):
        method = getattr(found, name, None)
        if callable(method):
            return cast("Callable[[Turn], object]", method)
    raise AgentLoadError(
        f"agent {reference!r}: a {type(found).__name__} is not callable and has no run method"
    )


def _check_signature(reference: str, function: Callable[[Turn], object]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have no signature; the first call will tell
        return
    try:
        signature.bind(None)
    except TypeError as exc:
        raise AgentLoadError(
            f"agent {reference!r}: it takes {signature}, "
            "but an agent is called with one argument, the turn"
        ) from exc


def _failed(reference: str, doing: str, exc: BaseException) -> AgentLoadError:
    # The words of a SyntaxError have the file without its folder.
    said = exc.msg if isinstance(exc, SyntaxError) else exc
    what = " ".join(f"{type(exc).__name__}: {said}".split())[:300]
    return AgentLoadError(f"agent {reference!r}: {doing} failed: {what}{_where(exc)}")


def _where(exc: BaseException) -> str:
    """File and line of a user's code that failed, if it came so far."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f" ({exc.filename}, line {exc.lineno})"
    frames = traceback.extract_tb(exc.__traceback__)
    theirs = [each for each in frames if each.filename not in _NOBODYS]
    theirs = [each for each in theirs if not each.filename.startswith("<frozen")]
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""

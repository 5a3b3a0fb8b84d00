"""`serve --reload`: the source files of a worker, and whether they have changed since it read them.

Their folders are looked at, and not a library asked to watch them: a look misses nothing that
changes before it or between two, and sees a file again that a broken import had no use for.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path

from ..agents.loading import AgentLoadError, attribute_of, find, look_beside
from ..agents.tools.functions import ToolLoadError, load_tool
from ..config.settings import Settings
from ..logging.startup import StartupError

#: Seconds between two looks.
LOOK = 0.25
#: Where nobody edits: this package, the standard library, installed packages.
_NOBODYS = [
    Path(__file__).parents[1],
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
]


def load(settings: Settings, config: Path | None) -> None:
    """Import what the configuration names, so that bad code is found. Raises StartupError."""
    # A file of bytecode is known by its source's size and second: two quick edits are one.
    sys.dont_write_bytecode = True
    if config is not None:
        look_beside(config)
    try:
        for reference in settings.agents.values():
            if not isinstance(attribute_of(reference), type):  # which is made once, by the server
                find(reference)
        for name, reference in settings.tools.functions.items():
            load_tool(name, reference)
    except (AgentLoadError, ToolLoadError) as error:
        raise StartupError(str(error)) from error


def sources() -> list[str]:
    """The files of the modules that this process has imported, but for libraries and ours."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = (Path(file) for file in files if file and file.endswith(".py"))
    return [str(path) for path in paths if not any(path.is_relative_to(each) for each in _NOBODYS)]


class SourceWatch:
    """Looks for changes of files, and of all Python files in their folders."""

    def __init__(self) -> None:
        self._files: set[Path] = set()
        self._folders: set[Path] = set()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._has_changed = False

    def add(self, files: Iterable[str], read_at: int) -> None:
        """Watch these. A change counts from `read_at` on, in nanoseconds since 1970."""
        paths = {Path(file) for file in files}
        self._files |= paths
        self._folders |= {path.parent for path in paths if path.suffix == ".py"}
        for path, state in self._look().items():
            if path not in self._seen:
                self._has_changed |= read_at < state[0] <= time.time_ns()
                self._seen[path] = state

    def have_changed(self) -> bool:
        """Whether files have changed, and nothing changes any more since the last look."""
        before, self._seen = self._seen, self._look()
        if before != self._seen:
            self._has_changed = True
            return False
        changed, self._has_changed = self._has_changed, False
        return changed

    def _look(self) -> dict[Path, tuple[int, int]]:
        """Time and size of each file."""
        found: dict[Path, tuple[int, int]] = {}
        for path in self._files | {each for folder in self._folders for each in _python_in(folder)}:
            try:
                state = path.stat()
            except OSError:
                continue
            found[path] = state.st_mtime_ns, state.st_size
        return found


def _python_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.name.endswith(".py")]
    except OSError:
        return []

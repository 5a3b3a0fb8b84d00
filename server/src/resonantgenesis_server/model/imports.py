"""Modules that most servers never need: imported when something first needs them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from importlib.util import resolve_name
from typing import Any


async def imported(name: str, package: str | None = None) -> Any:
    """The module, as `importlib.import_module` finds it.

    Its first import runs in a thread: on the event loop it would stall every stream. A module that
    is there costs no switch to another task.
    """
    name = resolve_name(name, package)
    module = sys.modules.get(name)
    # One that another thread is importing stands there already, unfinished.
    if module is None or getattr(module.__spec__, "_initializing", False):
        module = await asyncio.to_thread(importlib.import_module, name)
    return module

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

# The test folders are no packages.
sys.path.insert(0, str(Path(__file__).parent))

from web_site import WebSite, open_site


@pytest.fixture
async def site() -> AsyncIterator[WebSite]:
    """A web server on 127.0.0.1."""
    async with open_site() as opened:
        yield opened

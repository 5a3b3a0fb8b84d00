"""All peers; ours first."""

from __future__ import annotations

from .asgi import PlainAsgi
from .base import Peer
from .handwritten import Handwritten
from .limit import Limit
from .nchan import Nchan
from .ours import Ours

PEERS: tuple[Peer, ...] = (Ours(), Limit(), PlainAsgi(), Nchan(), Handwritten())

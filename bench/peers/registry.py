"""All peers; ours first."""

from __future__ import annotations

from .asgi import PlainAsgi
from .base import Peer
from .centrifuge import Centrifuge, Centrifugo
from .handwritten import Handwritten
from .limit import Limit
from .nchan import Nchan
from .node_peers import DurableStreams, SocketIo, Ws
from .ours import Ours, OwnForm

PEERS: tuple[Peer, ...] = (
    Ours(),
    OwnForm(),
    Limit(),
    PlainAsgi(),
    Nchan(),
    Handwritten(),
    DurableStreams(),
    Ws(),
    SocketIo(),
    Centrifuge(),
    Centrifugo(),
)

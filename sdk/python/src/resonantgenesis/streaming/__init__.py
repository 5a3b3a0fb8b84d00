"""Building blocks for streams of your own; `client.realtime()` has them built in.

ReconnectingWebSocket, maintain_connection: a socket that comes back, and its heartbeat.
StreamingPool: a bounded number of open sockets, lent and used again.
BufferedStream, RateLimitedStream: any asynchronous iterable in lots, or no faster than so.
"""

from ._flow import BufferedStream, RateLimitedStream
from ._pool import PooledConnection, StreamingPool
from ._reconnecting import ReconnectingWebSocket, maintain_connection

__all__ = [
    "BufferedStream",
    "PooledConnection",
    "RateLimitedStream",
    "ReconnectingWebSocket",
    "StreamingPool",
    "maintain_connection",
]

"""Python SDK of ResonantGenesis Streaming: agent answers that survive the network.

client = ResonantGenesis(api_key="…")
async for chunk in client.sessions.execute_stream(agent_id="guide", goal="What is a position?"):
    print(chunk.content, end="", flush=True)
"""

from ._async.client import ResonantGenesis
from ._async.events import AsyncEventStream, AsyncReplay
from ._async.sessions import AsyncSession
from ._async.stream import AsyncStream
from ._core.retry import Reconnection
from ._core.settings import Timeouts
from ._realtime.client import Realtime, RealtimeStream, RealtimeSubscription
from ._sync.client import SyncResonantGenesis
from ._sync.events import SyncEventStream, SyncReplay
from ._sync.sessions import SyncSession
from ._sync.stream import SyncStream
from ._version import __version__
from .administration import Erased, LiveMetrics, NodeMetrics, Tool
from .errors import (
    AgentFailed,
    AuthenticationError,
    Conflict,
    ConnectionLost,
    InternalError,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    PermissionDenied,
    PositionExpired,
    RateLimited,
    SessionBusy,
    StreamError,
    TurnTimeout,
    Unavailable,
)
from .models import (
    Agent,
    AgentWorker,
    ApiKey,
    Ask,
    Chunk,
    Event,
    File,
    InputResult,
    Message,
    MessagePage,
    Organization,
    Page,
    PostedMessage,
    QueuedTurn,
    ServerNode,
    SigningKey,
    SignInLink,
    Step,
    Team,
    Token,
    TurnResult,
    Usage,
    UsageReport,
    UsageRow,
    Webhook,
    WebhookDelivery,
)
from .webhooks import WebhookVerificationError, new_webhook_secret, verify_webhook

__all__ = [
    "Agent",
    "AgentFailed",
    "AgentWorker",
    "ApiKey",
    "Ask",
    "AsyncEventStream",
    "AsyncReplay",
    "AsyncSession",
    "AsyncStream",
    "AuthenticationError",
    "Chunk",
    "Conflict",
    "ConnectionLost",
    "Erased",
    "Event",
    "File",
    "InputResult",
    "InternalError",
    "InvalidRequest",
    "InvalidSettings",
    "LiveMetrics",
    "Message",
    "MessagePage",
    "NodeMetrics",
    "NotFound",
    "Organization",
    "Page",
    "PermissionDenied",
    "PositionExpired",
    "PostedMessage",
    "QueuedTurn",
    "RateLimited",
    "Realtime",
    "RealtimeStream",
    "RealtimeSubscription",
    "Reconnection",
    "ResonantGenesis",
    "ServerNode",
    "SessionBusy",
    "SignInLink",
    "SigningKey",
    "Step",
    "StreamError",
    "SyncEventStream",
    "SyncReplay",
    "SyncResonantGenesis",
    "SyncSession",
    "SyncStream",
    "Team",
    "Timeouts",
    "Token",
    "Tool",
    "TurnResult",
    "TurnTimeout",
    "Unavailable",
    "Usage",
    "UsageReport",
    "UsageRow",
    "Webhook",
    "WebhookDelivery",
    "WebhookVerificationError",
    "__version__",
    "new_webhook_secret",
    "verify_webhook",
]

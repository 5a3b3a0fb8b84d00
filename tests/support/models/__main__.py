"""`python -m support.models [PORT]`: the provider by itself, for the bench and for trying out."""

from __future__ import annotations

import signal
import sys
import threading

from .server import FakeProvider

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
with FakeProvider(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as provider:
    print(provider.url, flush=True)
    stop.wait()

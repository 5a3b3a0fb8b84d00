"""The asynchronous client; `_sync` is made from it by `scripts/sync_client.py`."""

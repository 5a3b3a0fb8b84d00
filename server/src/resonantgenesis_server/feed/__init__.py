"""From the log to readers: replay, then live."""

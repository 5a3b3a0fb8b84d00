"""Values to bytes and back; no I/O. Whatever many readers get is encoded once."""

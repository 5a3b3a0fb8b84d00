"""The socket of workers."""

"""The server below ASGI: everything that subclasses or touches uvicorn, and nothing else."""

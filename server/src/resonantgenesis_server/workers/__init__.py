"""One server of several processes on one port: a parent, and workers that are nodes of a database.

The parent imports neither the web framework nor a driver, and has no event loop. It binds the
socket, holds the data directory, and starts each worker by exec, not by fork: libraries that the
workers import may have threads. `parent.py` supervises, `process.py` is the parent's end of one
worker, `main.py` is the worker's own beginning.
"""

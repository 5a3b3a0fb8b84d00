"""The logic of the SDK without I/O: no sockets, no threads, no event loop, no HTTP library.

A machine says what it wants done (`actions`); a shell does it and reports what became of it.
"""

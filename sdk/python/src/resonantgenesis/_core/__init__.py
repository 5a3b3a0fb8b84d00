"""The logic of the SDK without I/O: no sockets, no threads, no event loop, no HTTP library.

A machine asks for actions (`actions`); a shell performs them and reports their outcomes.
"""

"""What the samples share: the two spellings of one argument, and telling the test what happened.

A sample is called with the socket's address and the key, and prints one JSON value a line.
"""

import json
import sys

import websockets

URI, KEY, *MORE = sys.argv[1:]
#: Until release 14 the argument for headers had another name.
HEADERS = (
    "extra_headers" if int(websockets.__version__.split(".")[0]) < 14 else "additional_headers"
)


def bearer(key=KEY):
    """The argument that authenticates, as this release calls it."""
    return {HEADERS: {"Authorization": f"Bearer {key}"}}


def tell(value):
    """One line for the test."""
    print(json.dumps(value), flush=True)

"""Reading a web page: addresses, transport, bodies, text."""

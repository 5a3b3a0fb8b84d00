"""Server-sent events: the streaming routes and the response that writes a stream."""

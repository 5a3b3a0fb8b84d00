"""`client.realtime()`: one WebSocket for any number of channels and sessions."""

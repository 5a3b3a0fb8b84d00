"""The client of Durable Streams, for reading."""

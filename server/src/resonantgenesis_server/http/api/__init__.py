"""The REST endpoints, one file a noun."""

"""The data directory: its lock, its clock, the write-ahead logs in it."""

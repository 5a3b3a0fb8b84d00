"""The embedded backend: a log in one SQLite file."""

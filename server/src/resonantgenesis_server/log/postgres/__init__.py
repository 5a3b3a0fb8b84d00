"""The backend for many nodes: a log in a PostgreSQL database."""

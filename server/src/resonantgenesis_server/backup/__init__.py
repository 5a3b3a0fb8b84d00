"""Backups of an embedded store: made while the server runs, restored, verified."""

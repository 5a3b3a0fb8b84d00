"""Webhooks: events that are sent to the addresses of an organization."""

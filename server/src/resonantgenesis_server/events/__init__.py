"""Platform events: the organization's log, the outbox before it, what a node tells."""

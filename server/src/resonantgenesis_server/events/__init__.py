"""Platform events: an organization's log of events, the outbox before it, the events of a node."""

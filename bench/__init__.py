"""The bench: the server beside its peers, the same work in the same run. See README.md."""

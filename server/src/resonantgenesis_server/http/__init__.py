"""The HTTP interface: the edge, authentication, one module per resource."""

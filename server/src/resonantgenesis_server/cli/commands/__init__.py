"""The commands on one resource each, e.g. `resonantgenesis sessions …`."""

"""Settings: their declarations, and where each value comes from."""

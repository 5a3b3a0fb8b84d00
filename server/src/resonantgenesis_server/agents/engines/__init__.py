"""Engines: the kinds of agents there are, one module each, imported when first used."""

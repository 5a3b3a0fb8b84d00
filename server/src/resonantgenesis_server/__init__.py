"""The ResonantGenesis streaming server."""

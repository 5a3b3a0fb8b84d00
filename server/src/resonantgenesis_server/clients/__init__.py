"""The protocols of clients that people have: each is an encoder and thin routes over the log."""

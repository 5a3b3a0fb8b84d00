"""Workers: agents in this process, which take turns over a socket."""

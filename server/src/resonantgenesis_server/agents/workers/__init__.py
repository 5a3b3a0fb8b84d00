"""Workers: agents in processes of their own, which take turns over a socket."""

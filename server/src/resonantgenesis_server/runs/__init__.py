"""Turns: started, queued, cancelled, timed, ended; detached from whoever asked for them."""

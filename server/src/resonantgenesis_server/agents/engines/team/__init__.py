"""The engine of teams: a turn that several agents do, each in a part of its own."""

"""The engine in its own process: starting it, asking it, reading what it answers."""

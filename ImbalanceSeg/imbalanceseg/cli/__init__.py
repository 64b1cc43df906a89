"""The command line: a thin face that parses, shows progress and prints; it computes nothing."""

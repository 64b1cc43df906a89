"""Checks code against the names that a running Slicer has listed; needs no Slicer."""

"""What the module does, without a window."""

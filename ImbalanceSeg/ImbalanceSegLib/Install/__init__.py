"""What has to be there before the engine runs."""

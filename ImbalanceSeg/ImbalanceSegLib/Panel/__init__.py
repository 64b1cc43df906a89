"""The sections of the panel: Qt widgets and nothing that computes."""

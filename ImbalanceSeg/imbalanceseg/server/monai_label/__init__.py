"""MONAI Label's protocol, for clients that speak it, on the cases and jobs of this engine."""

"""Model bundles: finding, reading, verifying and writing them."""

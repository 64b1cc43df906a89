"""What stands in the MRML scene, and how voxels get in and out of it."""

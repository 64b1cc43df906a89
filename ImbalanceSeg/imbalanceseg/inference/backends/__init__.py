"""What computes a network: PyTorch on the processor or a GPU, or OpenVINO on the processor."""

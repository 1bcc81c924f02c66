"""Parts of the PyTorch adapter."""

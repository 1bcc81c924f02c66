"""The engine of layers on NVIDIA GPUs: kernels and their launching."""

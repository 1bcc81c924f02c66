"""Neurons on NVIDIA's GPUs: all of time in one Triton kernel, forwards and backwards, for PyTorch's tensors."""

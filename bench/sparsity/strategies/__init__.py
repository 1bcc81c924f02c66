"""Sparse ways to convolve spikes, one file per array library, for ``python -m bench sparsity``."""

"""``python -m bench sparsity``."""

"""CUDA without a GPU: the kernels' text compiled for this CPU, held to the core, sanitized and mutated."""

"""Parts of the MLX adapter."""

"""MLX's Metal kernel, without Metal."""

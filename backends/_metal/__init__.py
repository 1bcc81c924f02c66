"""A Metal kernel of the neurons, for MLX. It has never run on Metal."""

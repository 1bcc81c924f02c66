"""JAX's programs, compiled for a GPU that is not here."""

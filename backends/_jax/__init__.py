"""Parts of the JAX adapter."""

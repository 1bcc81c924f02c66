"""``python -m bench speed``."""

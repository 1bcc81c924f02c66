"""``python -m bench accuracy``."""

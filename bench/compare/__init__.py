"""``python -m bench compare``: several machines side by side."""

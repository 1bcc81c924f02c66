"""``python -m bench run``: the standard set of one machine."""

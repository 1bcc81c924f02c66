"""``python -m bench accuracy --map``: the conditions under which aggregation gains accuracy over the exact simulation."""

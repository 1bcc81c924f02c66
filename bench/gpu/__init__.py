"""``python -m bench gpu``: what only a machine with a GPU can tell."""

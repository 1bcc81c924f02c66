"""The commands of ``python -m tacops``."""

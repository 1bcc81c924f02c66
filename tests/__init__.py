"""Tests of tacops: ``pytest``, or ``pytest --backend NAME``."""

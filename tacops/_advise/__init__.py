"""Which mode suits the data."""

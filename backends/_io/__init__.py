"""Spikes and arrays in files."""

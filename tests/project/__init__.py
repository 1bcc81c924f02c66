"""Tests of the package, its pages and its public names."""

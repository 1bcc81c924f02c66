"""Tests of `tacops.advise`."""

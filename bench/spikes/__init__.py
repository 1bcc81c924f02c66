"""Benchmarks of spikes: digests, disagreements, geometries, `advise`."""

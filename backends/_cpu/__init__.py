"""The engine of layers on CPUs: tiles, threads, compiled loops."""

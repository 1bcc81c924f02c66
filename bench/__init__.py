"""Benchmarks and the demonstration of tacops: ``python -m bench --help`` lists them."""

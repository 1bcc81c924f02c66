"""The graphs of the ``dask`` backend: which blocks a block of a result is made of, and the tasks that make it."""

"""Adapters, one file per array library, and the registry that finds them."""

from tacops._backend.dispatch import available_backends, backend_of, get_backend, missing_backends, register_backend
from tacops._backend.protocol import Backend, BackendUnavailable, Window

__all__ = [
    "Backend",
    "BackendUnavailable",
    "Window",
    "available_backends",
    "backend_of",
    "get_backend",
    "missing_backends",
    "register_backend",
]

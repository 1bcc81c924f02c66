"""Trainable layers, apart from the frameworks they live in."""

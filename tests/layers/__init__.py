"""Tests of trainable layers."""

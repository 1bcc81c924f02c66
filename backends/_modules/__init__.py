"""What the layers of PyTorch and Flax are made of; ``torch_layers.py`` and ``flax_layers.py`` are what users import."""

"""The demonstration: real images, small spiking networks, every backend."""

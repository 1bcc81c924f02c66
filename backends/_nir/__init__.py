"""The Neuromorphic Intermediate Representation: frozen layers to its graphs, and back."""

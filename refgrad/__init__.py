"""refgrad: the NumPy reference for training with compressed activations."""

__version__ = "0.1.0"

"""Trains the shader: pairs of an avatar's render and the truth, and the network on them."""

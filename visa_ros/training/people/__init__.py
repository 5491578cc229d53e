"""Synthetic people with exact truth: Anny bodies in MakeHuman's skins, clothes and hair."""

"""Trains the avatar network: takes of people become samples, samples train the network."""

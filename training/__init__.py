"""Trains the networks: speech (audio encoder), face (projection, deformation, colour), composition."""

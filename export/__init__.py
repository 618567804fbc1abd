"""Turns trained networks into an avatar folder: ONNX, baked textures, parity, hashes."""

"""Measurements: every figure that the project quotes is printed by a command of this package."""

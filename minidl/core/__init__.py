"""Foundations of the engine and the kernels: the seam, operators, registries, error state, grad mode and locks."""

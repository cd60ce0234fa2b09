"""What the engine and the kernels stand on: the seam, operators, registries, error state, grad mode and locks."""

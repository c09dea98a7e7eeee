"""Masked diffusion: the objective, the sampler and the scoring rules."""

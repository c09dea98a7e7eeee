"""Masked diffusion in training, Eq. (1): which tokens are hidden, and the loss."""

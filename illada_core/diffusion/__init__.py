"""Masked diffusion in training, Eq. (1): what is hidden, its loss, and the module of both."""

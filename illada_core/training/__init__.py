"""The one training loop: recipes, optimiser, checkpoints, metrics."""

"""The one training loop: optimizer, checkpoints, metrics, adapters."""

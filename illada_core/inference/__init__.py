"""From a request to its text: an opened checkpoint, settings, canvas, sampler."""

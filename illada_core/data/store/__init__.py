"""Token datasets on disk: frames, shards, manifests, turns, and their check."""

"""Shards to rows: the order of documents, and how they share rows."""

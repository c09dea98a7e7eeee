"""Text to packed rows to batches: sources, tokenizer, shards, packing, batches."""

"""Text to shards: encoding, chat examples, the series of shards, its journal, vocabularies."""

"""Text to ids and back: tokenizers and their files, chat templates, conversations."""

"""`illada generate`: prompts in, new text out."""

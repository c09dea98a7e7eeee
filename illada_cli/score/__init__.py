"""`illada score`: choices in, the best out; or a text in, its perplexity out."""

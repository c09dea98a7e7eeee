"""`illada pack`: documents or chat examples to rows of training tokens."""

"""`illada eval`: tasks and their items in, a table out."""

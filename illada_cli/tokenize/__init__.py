"""`illada tokenize`: text to a token dataset, to ids and back, to a vocabulary."""

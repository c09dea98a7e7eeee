"""`illada convert`: a model folder written anew, in another layout, dtype or with a mask."""

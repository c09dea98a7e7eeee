"""`illada pretrain` and `illada sft`: a recipe and packed rows in, a model out."""

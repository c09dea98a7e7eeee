"""The families of models that can be loaded, a file each, and the table of them."""

"""One file per verb. Heavy packages are imported inside the functions that need them."""

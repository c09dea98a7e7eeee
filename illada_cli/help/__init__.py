"""The verb `help`."""

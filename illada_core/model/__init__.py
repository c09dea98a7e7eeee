"""The transformer: its configuration, attention, layers and released weight layouts."""

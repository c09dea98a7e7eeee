"""Products and attention written for CPUs."""

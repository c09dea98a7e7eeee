"""From an item to its scores: questions to a model, scoring rules, bounds."""

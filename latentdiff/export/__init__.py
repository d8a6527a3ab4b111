"""A model written in forms that other programs read."""

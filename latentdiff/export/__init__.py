"""Export a model to formats that other programs read."""

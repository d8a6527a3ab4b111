"""Captions as numbers: what a text-conditioned network is given in place of a class."""

"""One module for each thing a user runs: ``python -m latentdiff.stages.<name> --help``."""

"""Speed of this package's own code, beside the limits of the machine that it runs on."""

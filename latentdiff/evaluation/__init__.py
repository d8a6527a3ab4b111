"""Feature nets, and the distances between sets of images that are measured with them."""

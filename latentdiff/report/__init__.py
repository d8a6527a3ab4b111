"""Several evaluations as one page that says whether the latent space paid off. Knows numbers and images, no model.

Nothing is imported here: the page's figures need matplotlib, and a grid of samples should not wait for it.
"""

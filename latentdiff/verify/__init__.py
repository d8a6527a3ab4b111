"""Proofs of the diffusion core and of the metrics: against other packages, against closed forms, and of invariants."""

"""The proofs that need nothing but this package, in the order of their telling."""

from __future__ import annotations

from latentdiff.verify import closed_form, distribution, invariants, targets

PROOFS = (
    targets.check_targets,
    invariants.check_guidance,
    invariants.check_determinism,
    closed_form.check_orders,
    closed_form.check_own_spacing,
    distribution.check_distribution,
    closed_form.check_likelihood,
)

"""The Inception Score of class probabilities."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latentdiff.errors import ConfigError

SPLITS = 10


def inception_score(logits: Tensor | None, splits: int = SPLITS, seed: int = 2020) -> dict[str, float]:
    """exp of the mean KL divergence of p(class | image) from p(class) (Salimans et al. 2016), over shuffled splits.

    Args:
        logits: [n, classes] of the network's classification head.
        splits: Parts that the images are shared out to; the score is taken in each.
        seed: Seed of their order, drawn as torch-fidelity draws it.

    Returns: ``mean`` and ``std`` over the splits. Raises ConfigError without logits, with logits that say nothing (a
    head of zeros would give exactly 1 for any images), or with fewer images than splits.
    """
    if logits is None or len(logits) == 0 or bool((logits == logits[:, :1]).all()):
        raise ConfigError("these weights have no classification head, so there is no Inception Score")
    if len(logits) < splits:
        raise ConfigError(f"{splits} splits need at least as many images, not {len(logits)}")
    order = np.random.RandomState(seed).permutation(len(logits))
    log_p = torch.log_softmax(logits.double()[torch.from_numpy(order)], dim=1)
    scores = []
    for part in range(splits):
        own = log_p[part * len(log_p) // splits : (part + 1) * len(log_p) // splits]
        marginal = own.exp().mean(dim=0, keepdim=True).log()
        scores.append(float((own.exp() * (own - marginal)).sum(dim=1).mean().exp()))
    return {"mean": float(np.mean(scores)), "std": float(np.std(scores))}

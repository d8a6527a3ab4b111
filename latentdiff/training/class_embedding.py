"""Fine-tuning on other classes: the rows of a class embedding, matched by the classes' names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.errors import CheckpointError
from latentdiff.models.conditioning import ConditionedNetwork

ROWS = "classes.weight"
# The last layer of the time's embedding, which the class's is added to.
TIME_BIAS = "time.2.bias"
# Names in one message.
SHOWN = 10


def fit_class_embedding(
    weights: dict[str, Tensor],
    network: ConditionedNetwork,
    before: Sequence[str] | None,
    now: Sequence[str],
    named: str,
    prefixes: Sequence[str] = ("",),
) -> dict[str, Tensor]:
    """The weights with a row for each of the classes ``now``, and a line about it unless the classes are the same.

    A class that is in both keeps its row, whatever its new index. A new class starts with the row of "no class". If a
    model had no classes, their new rows are zeros, so it draws as before. If all classes are dropped, the model draws
    as it drew without a class.

    Args:
        weights: The state of a trained network.
        network: The network that they are for.
        before: The names of the classes that they were trained on, in order; None where they are not known.
        now: The names of the classes that there are now, in order.
        named: What messages call the weights.
        prefixes: What the network's names begin with in ``weights``, once for each copy of the network.

    Raises :class:`~latentdiff.errors.CheckpointError` for another number of classes whose names are not known.
    """
    ours, theirs = network.classes, weights.get(prefixes[0] + ROWS)
    if ours is None and theirs is None:
        return weights
    if ours is not None and theirs is not None:
        if before is None and len(theirs) == len(ours.weight):
            print(
                f"{named} does not name its {len(theirs) - 1} classes: they are assumed to be those of the data set, "
                "in the same order"
            )
            return weights
        if before is None or len(before) != len(theirs) - 1:
            raise CheckpointError(
                f"{named} has {len(theirs) - 1} classes without names, and the data set has "
                f"{len(ours.weight) - 1}: the classes cannot be matched"
            )
        if list(before) == list(now):
            return weights
    weights = dict(weights)
    for prefix in prefixes:
        rows = weights.pop(prefix + ROWS, None)
        if rows is None:
            assert ours is not None
            weights[prefix + ROWS] = torch.zeros_like(ours.weight)
        elif ours is None:
            weights[prefix + TIME_BIAS] = weights[prefix + TIME_BIAS] + rows[-1]
        else:
            known = dict(zip(before or (), rows[:-1], strict=True))
            weights[prefix + ROWS] = torch.stack([*(known.get(name, rows[-1]) for name in now), rows[-1]])
    print(_words(before or (), now if ours is not None else (), theirs is not None))
    return weights


def _words(before: Sequence[str], now: Sequence[str], had_classes: bool) -> str:
    if not now:
        return "classes: all are dropped, and the model draws as it drew without a class"
    if not had_classes:
        return f"classes: all {len(now)} are new to these weights, which had none"
    groups = {
        "kept": [name for name in now if name in before],
        "new": [name for name in now if name not in before],
        "dropped": [name for name in before if name not in now],
    }
    parts = []
    for what, names in groups.items():
        listed = ", ".join([*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])]) or "none"
        parts.append(f"{what} {listed}" + (f" ({len(names)})" if len(names) > SHOWN else ""))
    return f"classes: {'; '.join(parts)}"

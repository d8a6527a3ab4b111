"""Networks that no memory of this machine could hold, refused before they are allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from latentdiff.errors import ConfigError
from latentdiff.memory import total_memory

# Below so many parameters, by a rough count from above, no network needs a look.
SURELY_FITS = 10**9


def check_size(build: Callable[[], nn.Module], widths: Sequence[int], blocks: int) -> None:
    """Raise ConfigError for a network whose fp32 weights alone are larger than this machine's memory.

    The network is built without memory (torch's meta device) and counted, where it may be so large.

    Args:
        build: Builds the network.
        widths: Its widths.
        blocks: Its residual blocks at each resolution.
    """
    if torch.get_default_device().type == "meta" or 100 * (blocks + 1) * sum(w * w for w in widths) < SURELY_FITS:
        return
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build().parameters())
    memory = total_memory()
    if memory and 4 * count > memory:
        raise ConfigError(
            f"channels {list(widths)} and {blocks} blocks make a network of {count:,} parameters. Its weights take "
            f"{4 * count / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of memory: take fewer"
        )

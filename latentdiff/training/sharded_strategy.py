"""Lightning's strategy for sharded training, with checkpoints that are those of any other run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy

from latentdiff.training.sharding import is_sharded, sharded_like


class ShardedStrategy(ModelParallelStrategy):
    """All processes share each sharded network; ``last.ckpt`` holds whole tensors, in each optimiser's own order.

    Lightning numbers the optimiser's state by the module's parameters instead, which a run by one process, whose
    optimiser has them in groups, could not be told from.
    """

    def __init__(self, processes: int):
        super().__init__(processes, 1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state; all processes must ask for it."""
        state = optimizer.state_dict()
        return state | {"state": {i: {k: _whole(v) for k, v in own.items()} for i, own in state["state"].items()}}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module = self.lightning_module
        own = module.state_dict()
        whole = checkpoint["state_dict"]
        module.load_state_dict(
            {name: sharded_like(tensor, own[name]) if name in own else tensor for name, tensor in whole.items()}, strict
        )

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            state = {
                number: {
                    name: sharded_like(value, parameter) if torch.is_tensor(value) and value.ndim else value
                    for name, value in saved["state"][number].items()
                }
                for number, parameter in zip(numbers, parameters, strict=True)
                if number in saved["state"]
            }
            optimizer.load_state_dict(saved | {"state": state})


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if torch.is_tensor(value) and is_sharded(value) else value

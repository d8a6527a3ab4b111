"""What both trainers share: one optimiser step, counting in images, the clock, stateless seeding, resuming."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor, nn

from latentdiff import distributed
from latentdiff.checkpoint import name_of_not_finite
from latentdiff.config import TrainerConfig
from latentdiff.data.loader import Batches, batches_on, mix_seed
from latentdiff.errors import ConfigError, DivergenceError
from latentdiff.training import compiling, sharding
from latentdiff.training.ema import Ema
from latentdiff.training.energy import EnergyMeter
from latentdiff.training.gradient_norms import STEPS_BETWEEN_CHECKS, GradientNorms
from latentdiff.training.learning_rate import lr_factor, stopped_early
from latentdiff.training.post_hoc_ema import PowerAverages
from latentdiff.training.random_streams import RandomStream, seeded_generator
from latentdiff.training.residence import stays_on_device
from latentdiff.training.run_data import check_against_checkpoint
from latentdiff.training.step_flops import StepFlops


class MicroBatch(NamedTuple):
    """What a loss function finds for some images of a batch.

    Attributes:
        loss: What to go backward from: a mean over these images whose gradient is their loss's; None once that is done.
        logs: Losses to log, each the mean over these images.
        outputs: What a later part of the step needs of them.
    """

    loss: Tensor | None
    logs: dict[str, Tensor]
    outputs: Any = None


class StageModule(lightning.LightningModule):
    """Base of the two trainers. Optimisation is manual, progress is ``images_seen``.

    Everything random in a step follows from (seed, images seen, rank), so a resumed run needs no generator's state,
    and Lightning's own loop counters are dropped from its checkpoints: the batches do not depend on them.

    ``data`` is what batches are drawn from: tensors of equal length, moved whole to the training device at the start.
    Subclasses implement ``train_batch`` and ``configure_optimizers``.

    Attributes:
        has_unused_parameters: A backward pass may leave some of the parameters out.
    """

    has_unused_parameters = False
    network: nn.Module
    ema: Ema[Any]

    def __init__(self, trainer: TrainerConfig):
        super().__init__()
        self.automatic_optimization = False
        self.settings = trainer
        self.images_seen = 0
        # Where it was resumed, in images; None where it was not.
        self.resumed_at: int | None = None
        self.history: list[dict[str, float]] = []
        # What the run that this one's weights come from had cost, where there is one (training/fine_tune.py).
        self.started_from: dict[str, Any] | None = None
        # Of the training images: a run goes on with the images that it began with.
        self.data_identity: dict[str, Any] | None = None
        # Those that this run was trained by: the one that began it, then those that went on with it.
        self.commands: list[str] = []
        # Averages whose length is chosen afterwards, where the run keeps snapshots of them.
        self.averages: PowerAverages | None = None
        self.data: tuple[Tensor, ...] = ()
        self.batches: Batches | None = None
        self._seconds_before = 0.0
        self._clock: float | None = None
        # The main process's clock, which several processes go by in place of their own.
        self._shared_elapsed: float | None = None
        # Joules of the training steps, None from the first epoch on that the device would not tell of.
        self.energy: float | None = 0.0
        self._meter: EnergyMeter | None = None
        self.step_flops = StepFlops()
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._steps = 0
        self._gradient_norms = GradientNorms()
        # In a list, so that it is not registered as a module a second time.
        self._averaged: list[nn.Module] = []
        self._is_compiled = False
        # What the run computes in; None until that is chosen. The settings may say ``auto``.
        self.dtype_of_run: torch.dtype | None = None

    def describe(self) -> str:
        """One line that describes the network, for the screen."""
        raise NotImplementedError

    # --- several processes ----------------------------------------------------------------------------------------

    @property
    def sharded(self) -> bool:
        """Whether each process holds only its share of the network (FSDP)."""
        return self.settings.strategy == "fsdp" and distributed.world_size() > 1

    @property
    def called_parts(self) -> list[nn.Module]:
        """The parts of the network that are called as modules, each to be sharded or compiled by itself."""
        return [self.network]

    def configure_model(self) -> None:
        """Called by Lightning once the processes have met, before the optimisers are made."""
        if self.sharded:
            for part in self.called_parts:
                sharding.shard(part, self.trainer.strategy.root_device)  # where the module itself is not yet

    # --- one step -------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.ema.follow(self.network)
        # Here, since only a started trainer knows this process's rank and device.
        self.batches = batches_on(
            self.device,
            self.data,
            resident=stays_on_device(sum(tensor.nbytes for tensor in self.data), self.settings, self.device),
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        if compiling.pays(self.settings, self.device):
            compiling.compile_parts(self.called_parts, self.device)
            self._is_compiled = True
            self.step_flops.give_up()
        # A resumed run may have been killed after its last step, before its model was written.
        self.trainer.should_stop = self.finished()

    def begin_step(self) -> None:
        """Bring about what changes at this point of the budget. Called before each step."""

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate that the schedule gives."""
        return 1.0

    def lr_progress(self) -> float:
        """Where the schedule of the learning rate is, 0 to 1."""
        return self.progress()

    def train_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Do one optimiser step on this process's share of a batch; return the losses to log."""
        raise NotImplementedError

    def keep_averages_of(self, part: nn.Module) -> None:
        """Average the parameters of a part of the network for snapshots, where the run is to have some."""
        if self.settings.ema_snapshots:
            if self.settings.strategy == "fsdp":
                raise ConfigError("trainer.ema_snapshots needs the network whole: use --trainer.strategy ddp")
            self.averages, self._averaged = PowerAverages(part), [part]

    def update_averages(self) -> None:
        """Update the averages of the weights (EMA). Called after each step."""
        self.ema.update(self.network, self.images_seen_after_step, self.settings.batch_size)
        if self.averages is not None:
            now = self.images_seen + self.settings.batch_size
            self.averages.update(self._averaged[0], now, self.settings.batch_size)

    def training_step(self, _: Any, batch_idx: int) -> None:
        self.begin_step()
        factor = self.lr_factor * lr_factor(self.settings, self.images_seen, self.lr_progress(), self.history)
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        losses = self._train_compiled_batch(self.batches.at(self.images_seen))
        self.images_seen += self.settings.batch_size
        self.share_clock()
        for name, value in losses.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.detach(), count + 1)
        self._steps += 1
        if self._steps % STEPS_BETWEEN_CHECKS == 0:
            self._gradient_norms.check()
            if self._meter is not None:
                self._meter.look()
        if self.finished():
            self.trainer.should_stop = True

    def _train_compiled_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Do a step. If compiling fails under ``auto``, repeat it without the compiler; the weights have not changed.

        Raises ConfigError where compiling was asked for and fails.
        """
        try:
            return self._train_seeded_batch(batch)
        except RuntimeError as error:
            if not (self._is_compiled and compiling.is_compiler_error(error)):
                raise
            words = f"torch.compile fails here ({compiling.words_of(error)})"
            if self.settings.compile == "on":
                raise ConfigError(f"{words}: train with --trainer.compile off") from error
        print(f"not compiled: {words}", flush=True)
        self._is_compiled = False
        compiling.leave_uncompiled(self.called_parts)
        return self._train_seeded_batch(batch)

    def _train_seeded_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        # Dropout is random by itself: its stream starts anew in each step, so that a resumed run goes on the same.
        torch.manual_seed(mix_seed(self.settings.seed, RandomStream.DROPOUT, self.images_seen, distributed.rank()))
        return self.step_flops.of(self.kind_of_step, lambda: self.train_batch(batch))

    @property
    def kind_of_step(self) -> Hashable:
        """What a step's number of operations depends on: steps of one kind take equally many."""
        return None

    @property
    def local_slice(self) -> slice:
        """This process's part of a batch."""
        size = self.settings.batch_size // distributed.world_size()
        return slice(distributed.rank() * size, (distributed.rank() + 1) * size)

    def batch_random(self) -> Callable[..., Tensor]:
        """A function that draws random numbers for the whole batch and keeps this process's part of them.

        ``draw(torch.randn, c, h, w)`` is [b, c, h, w], drawn on the training device. The same batch thus has the same
        noise, and the same loss, for any number of processes on devices of one kind. Each call of this method starts
        the step's stream anew.
        """
        generator = seeded_generator(self.device, self.settings.seed, RandomStream.BATCH, self.images_seen)

        def draw(distribution: Callable[..., Tensor], *shape: int) -> Tensor:
            whole = distribution(self.settings.batch_size, *shape, generator=generator, device=self.device)
            return whole[self.local_slice]

        return draw

    def micro_batches(self, count: int) -> list[slice]:
        """A batch of ``count`` images cut into the parts that it is computed in, one after the other."""
        size = -(-count // self.settings.gradient_accumulation_steps)
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def optimise(
        self,
        optimizer: Any,
        parameters: Iterable[nn.Parameter],
        loss_functions: Sequence[Callable[[slice], MicroBatch]],
        count: int,
    ) -> tuple[dict[str, Tensor], list[MicroBatch]]:
        """One optimiser step: backward micro batch by micro batch, clip the gradient, step.

        Args:
            optimizer: Of ``parameters``.
            parameters: What is trained.
            loss_functions: Each gives the mean loss of the images in a slice. Their gradients add up.
            count: Images in this process's share of the batch.

        Returns: the mean of each logged loss over the batch, and what the functions returned, in their order.

        A gradient that is NaN or infinite ends the run with an error, before anything is saved.
        """
        parameters, logs, results = list(parameters), {}, []
        optimizer.zero_grad(set_to_none=True)
        for loss_function in loss_functions:
            for part in self.micro_batches(count):
                result, weight = loss_function(part), (part.stop - part.start) / count
                self.manual_backward(weight * result.loss)
                for name, value in result.logs.items():
                    logs[name] = logs.get(name, 0.0) + weight * value.detach()
                results.append(result._replace(loss=None))
        self.clip_gradients(parameters)
        optimizer.step()
        return logs, results

    def clip_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Scale the gradient down to the norm ``grad_clip``, and keep its norm for a later check."""
        if self.sharded:
            sharding.average_gradients(parameters)
            norm = sharding.clip_gradients(parameters, self.settings.grad_clip)
        else:
            norm = nn.utils.clip_grad_norm_(parameters, self.settings.grad_clip)
        self._gradient_norms.append(norm, self.images_seen)

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    @property
    def images_seen_after_step(self) -> int:
        """Number of training images of the weights after this step, including those of the run that they come from."""
        return self.images_seen + self.settings.batch_size + (self.started_from or {}).get("images_seen", 0)

    # --- the budget -----------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds spent on training steps, over all the runs that this one resumes; validation is not counted."""
        return self._seconds_before + (time.perf_counter() - self._clock if self._clock is not None else 0.0)

    def share_clock(self) -> None:
        """Give all processes the clock of the main process, if the budget is in seconds."""
        if distributed.world_size() > 1 and self.settings.max_seconds:
            self._shared_elapsed = distributed.broadcast(self.seconds)

    def elapsed(self) -> float:
        """The seconds of the budget that are spent, the same in all processes."""
        return self.seconds if self._shared_elapsed is None else self._shared_elapsed

    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1: of the images or of the seconds, whichever ends the run first."""
        return self.share(self.images_seen, self.elapsed())

    def share(self, images_seen: int, elapsed: float) -> float:
        """Share of the budget that was spent after so many images and seconds."""
        images, seconds = self.settings.max_images, self.settings.max_seconds
        shares = [images_seen / images] if images else []
        shares += [elapsed / seconds] if seconds else []
        return min(1.0, max(shares))

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Stop the budget's clock while the block runs, for work within an epoch that is not training."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        try:
            yield
        finally:
            if self._clock is not None:
                self._clock += time.perf_counter() - begun

    def finished(self) -> bool:
        """Whether the budget is spent or the monitored metric has stalled."""
        return self.progress() >= 1.0 or stopped_early(self.settings, self.history)

    def on_train_epoch_start(self) -> None:
        self._sums, self._steps = {}, 0
        self._clock = time.perf_counter()
        self._meter = EnergyMeter(self.device)
        self.share_clock()

    def end_epoch(self) -> dict[str, float]:
        """End an epoch's training time, gather its averaged network, and return its mean losses and its speed.

        Raises DivergenceError, before anything is drawn or saved, for gradients, weights or losses that are not finite.
        """
        self._gradient_norms.check()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - self._clock
        self._seconds_before, self._clock = self._seconds_before + elapsed, None
        used = self._meter.since_last()
        if self.device.type == "cuda":  # a device each; a CPU's figure is the whole machine's
            own = torch.tensor(math.nan if used is None else used, dtype=torch.float64)
            total = distributed.world_size() * float(distributed.all_reduce_mean(own))
            used = None if math.isnan(total) else total
        self.energy = None if used is None or self.energy is None else self.energy + used
        self.share_clock()
        self.ema.gather(self.network)
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        together = distributed.all_reduce_mean(torch.tensor([*means.values()], dtype=torch.float64))
        means = dict(zip(means, together.tolist(), strict=True))
        self._check_finite(means)
        return {**means, "images_per_second": self._steps * self.settings.batch_size / elapsed}

    def _check_finite(self, losses: dict[str, float]) -> None:
        """Raise DivergenceError, in all processes, for weights or mean losses that are NaN or infinite.

        It is called before anything is drawn or saved at an epoch's end, so the saved files are from before.
        """
        weights = {name: sharding.own_share(tensor) for name, tensor in self.state_dict().items()}
        bad = name_of_not_finite(weights) is not None
        if float(distributed.all_reduce_mean(torch.tensor(float(bad)))) or not all(map(math.isfinite, losses.values())):
            what = "weights are" if bad else f"losses ({', '.join(losses)}) are"
            raise DivergenceError(
                f"the {what} NaN or infinite after {self.images_seen:,} images. Lower --trainer.lr, or train with "
                "--trainer.precision fp32; the last checkpoint is from before this epoch."
            )

    def peak_memory_bytes(self) -> int:
        """Peak memory: of the GPU where one is used, else of the whole process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_memory_of_process()

    # --- resuming -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._gradient_norms.check()
        checkpoint.pop("loops", None)
        checkpoint["latentdiff"] = {
            "images_seen": self.images_seen,
            "seconds": self._seconds_before,
            "energy": self.energy,
            "flops": self.step_flops.total,
            "history": self.history,
            "started_from": self.started_from,
            "commands": self.commands,
            "data": self.data_identity,
            "precision": "bf16" if self.dtype_of_run == torch.bfloat16 else "fp32",
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["latentdiff"]
        if self.data_identity is not None:
            check_against_checkpoint(state.get("data"), state.get("data_fingerprint"), self.data_identity)
        self.images_seen, self._seconds_before = state["images_seen"], state["seconds"]
        self.resumed_at = self.images_seen
        self.energy, self.step_flops.total = state.get("energy"), state.get("flops")
        self.history, self.started_from = state["history"], state.get("started_from")
        earlier = state.get("commands", [])
        self.commands = [*earlier, *(command for command in self.commands if command not in earlier)]


def peak_memory_of_process() -> int:
    """Peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # On Linux the value of getrusage begins at the parent's peak: a run would be charged for what started it.
        lines = (line.split() for line in status.read_text().splitlines())
        return 1024 * next(int(words[1]) for words in lines if words[:1] == ["VmHWM:"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def adamw(parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float):
    """AdamW with weight decay on matrices and kernels only. Decaying biases or the scales of norms would not help.

    Fused: of 213 tensors with 3 M weights a step takes 1.5 ms on two cores, and 6 ms operation by operation.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay, "initial_lr": lr},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "initial_lr": lr},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=tuple(betas), fused=True)

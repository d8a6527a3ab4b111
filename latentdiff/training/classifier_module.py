"""Training the classifier: a plain loop, since a few minutes on one device need no Lightning."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.data import Batches, ImageDataset
from latentdiff.data.loader import mix_seed
from latentdiff.errors import ConfigError, DivergenceError
from latentdiff.models.classifier import Classifier

MAX_SHIFT = 1 / 14  # of the side: two pixels in 28
MOMENTUM, WEIGHT_DECAY, LABEL_SMOOTHING = 0.9, 5e-4, 0.05
FEWEST_STEPS = 8


def train(
    train_set: ImageDataset,
    test_set: ImageDataset,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    hflip: bool = False,
    channels: tuple[int, ...] = (32, 64, 128),
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    progress: bool = True,
) -> tuple[Classifier, float]:
    """Train on ``train_set``: Nesterov SGD, one-cycle learning rate (Smith and Topin 2017), random shifts.

    Args:
        train_set: Images to learn from.
        test_set: Images to measure the accuracy on; used for nothing else.
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Peak learning rate.
        seed: Seed of the weights, the batches and the shifts.
        hflip: Mirror at random too.
        channels: The network's widths.
        device: Where to train.
        precision: ``torch.bfloat16`` trains under autocast.
        progress: Print a line for each pass.

    Returns:
        The model in eval mode, its weights rounded to bf16 as its file holds them, and its accuracy on ``test_set``.
    """
    steps = count_steps(len(train_set), epochs, batch_size)
    device = torch.device(device)
    torch.manual_seed(mix_seed(seed, 0))
    model = Classifier(train_set.image_shape, train_set.num_classes, channels)
    model = model.to(device=device, memory_format=torch.channels_last).train()
    batches = Batches(train_set.images.to(device), train_set.labels.to(device), batch_size=batch_size, seed=seed)
    optimizer = torch.optim.SGD(_groups(model), lr=lr, momentum=MOMENTUM, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=0.25, cycle_momentum=False
    )
    started, total, count = time.perf_counter(), torch.zeros((), device=device), 0
    for step in range(steps):
        images, labels = batches.at(step * batch_size)
        generator = torch.Generator().manual_seed(mix_seed(seed, 1, step))
        x = augment(images, hflip, generator).to(memory_format=torch.channels_last).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total, count = total + loss.detach(), count + 1
        epoch, last = divmod((step + 1) * batch_size, len(train_set))
        ends = last < batch_size or step + 1 == steps
        if ends and not bool(total.isfinite()):
            raise DivergenceError(f"the loss is {float(total / count)} after {step + 1:,} steps. Lower --lr.")
        if progress and ends:
            rate = (step + 1) * batch_size / (time.perf_counter() - started)
            print(f"epoch {min(epoch, epochs)}/{epochs}: loss {total / count:.4f}, {rate:,.0f} images/s", flush=True)
            total, count = torch.zeros_like(total), 0
    model.load_state_dict({name: _rounded(tensor) for name, tensor in model.state_dict().items()})
    return model.eval(), accuracy(model, test_set)


def count_steps(images: int, epochs: int, batch_size: int) -> int:
    """Number of training steps.

    Args:
        images: Number of training images.
        epochs: Passes over them.
        batch_size: Images a step.

    Raises :class:`ConfigError` where there are too few for the learning rate to rise and to fall.
    """
    steps = math.ceil(epochs * images / batch_size)
    if steps < FEWEST_STEPS:
        raise ConfigError(
            f"{epochs} epochs of {images:,} images in batches of {batch_size:,} are {steps} steps, and at least "
            f"{FEWEST_STEPS} are needed: lower --batch_size, or raise --epochs"
        )
    return steps


@torch.inference_mode()
def accuracy(model: Classifier, images: ImageDataset, batch_size: int = 500) -> float:
    """Share of images, 0 to 1, whose class ``model`` (in eval mode) gets right."""
    device = next(model.parameters()).device
    right = 0
    for batch, labels in zip(images.images.split(batch_size), images.labels.split(batch_size), strict=True):
        logits = model((batch.to(device).float() / 127.5 - 1).to(memory_format=torch.channels_last))
        right += int((logits.argmax(1).cpu() == labels).sum())
    return right / len(images)


def augment(images: Tensor, hflip: bool, generator: torch.Generator) -> Tensor:
    """Move each image [b, c, h, w] by up to a fourteenth of its side, repeating the edge; mirror half if ``hflip``."""
    count, _, height, width = images.shape
    rows, columns = (_shifts(count, side, generator) for side in (height, width))
    if hflip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    batch = torch.arange(count, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # b h w c
    return moved.permute(0, 3, 1, 2)


def _shifts(count: int, side: int, generator: torch.Generator) -> Tensor:
    """int64 [count, side]: which row (or column) each one is read from."""
    largest = max(1, round(side * MAX_SHIFT))
    shift = torch.randint(-largest, largest + 1, (count, 1), generator=generator)
    return (torch.arange(side) + shift).clamp(0, side - 1)


def _groups(model: nn.Module) -> list[dict]:
    """Weight decay on matrices and kernels only. On norms and biases it would only counteract the normalisation."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.bfloat16().float() if tensor.is_floating_point() else tensor

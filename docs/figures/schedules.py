"""Draw docs/figures/schedules.png: the signal-to-noise ratio of every schedule. Run from the repository root."""

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.diffusion.schedule import build_schedule

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name in ("linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve"):
    schedule = build_schedule(DiffusionConfig(schedule=name, num_train_steps=None if name in ("edm", "ve") else 1000))
    # The levels as training draws them: equal shares of the x axis are equal shares of the training images.
    share = torch.linspace(0.0, 0.999, 400, dtype=torch.float64)
    levels = schedule.training_levels(share)
    axes[0].plot(share, 20 * torch.log10(levels.alpha / levels.sigma), label=name)
    if name in ("linear", "cosine"):
        axes[1].plot(share, levels.alpha, label=f"alpha, {name}")
        axes[1].plot(share, levels.sigma, "--", label=f"sigma, {name}")
axes[0].set(xlabel="share of the training images", ylabel="signal-to-noise ratio in dB", ylim=(-60, 60))
axes[1].set(xlabel="share of the training images", ylabel="scale")
for each in axes:
    each.legend(fontsize=8, frameon=False)
    each.spines[["top", "right"]].set_visible(False)
figure.savefig("docs/figures/schedules.png", dpi=90)
Image.open("docs/figures/schedules.png").convert("RGB").quantize(64).save("docs/figures/schedules.png", optimize=True)

"""Draw docs/figures/latents.png: what a latent holds of an image. Run from the repository root."""

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from latentdiff import load

model = load("checkpoints/fashion-mnist/latent.safetensors", engine="torch")
images = model.sample(num_images=4, labels=[0, 3, 7, 8], seed=0)
codec = load("checkpoints/fashion-mnist/autoencoder.safetensors")
moments = codec.encode(images)  # mean and log-variance, [4, 4, 7, 7]
mean, log_variance = moments.chunk(2, dim=1)
draws = codec.sample(moments, generator=torch.Generator().manual_seed(0))  # standardised, [4, 2, 7, 7]
decoded = codec.decode(draws)
titles = ("image", "mean, 0", "mean, 1", "std, 0", "std, 1", "a draw, 0", "a draw, 1", "the draw, decoded")
figure, axes = plt.subplots(4, len(titles), figsize=(9, 4.6), layout="constrained")
for row, line in enumerate(axes):
    latents = [*mean[row], *(0.5 * log_variance[row]).exp(), *draws[row]]
    for axis, title, shown in zip(line, titles, [images[row, 0], *latents, decoded[row, 0]], strict=True):
        axis.imshow(shown, cmap="gray" if shown.dtype == torch.uint8 else "viridis")
        axis.set_title(title if row == 0 else "", fontsize=8)
        axis.axis("off")
figure.savefig("docs/figures/latents.png", dpi=80)
Image.open("docs/figures/latents.png").convert("RGB").quantize(64).save("docs/figures/latents.png", optimize=True)

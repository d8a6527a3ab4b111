"""A small residual classifier: a feature network for where Inception is too slow, and a test of samples' classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a skip (He et al. 2016).

    Batch norm is cheaper than the group norm of the generators, and the classifier is used with frozen statistics.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        stride: Factor by which the block divides the sides.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        same = in_channels == out_channels and stride == 1
        self.stride = stride
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, in_channels, h, w] to [b, out_channels, h / stride, w / stride], sides rounded up."""
        h = F.relu(self.norm1(self.conv1(x)))
        # Positions are strided here, not by the convolution: oneDNN's strided 1x1 writes outside its memory,
        # going back through 4 channels with channels last on a CPU of AVX2 (seen with torch 2.14).
        return F.relu(self.skip(x[:, :, :: self.stride, :: self.stride]) + self.norm2(self.conv2(h)))


class Classifier(nn.Module):
    """A classifier of one residual block at each resolution, mean pooling and a linear layer.

    Args:
        image_shape: Channels, height and width of the images.
        num_classes: Number of classes.
        channels: Width at each resolution, finest first; each further entry halves the side. The last width
            is ``feature_dim``, the number of pooled features.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, channels: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        self.image_shape, self.num_classes, self.feature_dim = tuple(image_shape), num_classes, channels[-1]
        self.stem = nn.Conv2d(image_shape[0], channels[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels[0])
        widths = (channels[0], *channels)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(a, b, stride=1 if i == 0 else 2)
                for i, (a, b) in enumerate(zip(widths, channels, strict=False))
            )
        )
        self.head = nn.Linear(channels[-1], num_classes)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled features [b, feature_dim] and logits [b, num_classes] of images [b, c, h, w] in [-1, 1]."""
        pooled = self.blocks(F.relu(self.norm(self.stem(x)))).mean(dim=(2, 3))
        return pooled, self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [b, num_classes] of images [b, c, h, w] in [-1, 1]."""
        return self.features(x)[1]

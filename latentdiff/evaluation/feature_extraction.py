"""Features of many images, and a cache of those of real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from latentdiff import checkpoint, distributed
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.evaluation.feature_nets import FeatureNet, Features


def extract_features(net: FeatureNet, images: Tensor, progress: bool = True) -> Features:
    """Features of uint8 images [n, c, h, w], on the CPU, in their order. Raises ConfigError for no images."""
    if not len(images):
        raise ConfigError("there are no images to take features of")
    with tqdm(total=len(images), desc=net.name, unit="img", disable=None if progress else True, leave=False) as bar:
        parts = []
        for batch in images.split(net.batch_size):
            parts.append(net(batch))
            bar.update(len(batch))
    logits = None if parts[0].logits is None else torch.cat([part.logits for part in parts])
    return Features(torch.cat([part.pooled for part in parts]), logits)


def extract_features_in_shares(net: FeatureNet, images: Tensor) -> Features:
    """The same where several processes hold the same ``images``: each takes the features of its share."""
    own = distributed.shard_range(len(images))
    # A process without a share says by one image what features are like.
    part = extract_features(net, images[own.start : own.stop] if own else images[:1])
    tensors = [None if own_part is None else own_part[: len(own)] for own_part in (part.pooled, part.logits)]
    return Features(*(None if tensor is None else distributed.gather(tensor) for tensor in tensors))


def cached_features(
    net: FeatureNet, images: Tensor, folder: Path | str, fingerprint: str, progress: bool = True
) -> Features:
    """The same from a file in ``folder``, which is made where there is none, or none that is whole.

    Args:
        net: The feature net.
        images: uint8 [n, c, h, w].
        folder: Where the cached files are; they may be removed at any time.
        fingerprint: Hash of the images' content. It, the net, its weights and n together name the file.
        progress: Show a progress bar while extracting.
    """
    key = hashlib.sha256(f"{fingerprint} {net.name} {net.weights_sha256} {len(images)}".encode()).hexdigest()[:24]
    path = Path(folder) / f"features-{key}.safetensors"
    if path.is_file():
        features = _read(path, len(images))
        if features is not None:
            return features
    features = extract_features(net, images, progress=progress)
    tensors = {"pooled": features.pooled} | ({} if features.logits is None else {"logits": features.logits})
    checkpoint.write_tensors(path, tensors, {"key": key})
    return features


def _read(path: Path, count: int) -> Features | None:
    """The features of ``count`` images in a file; None, with a line, where it is damaged or of an earlier version."""
    try:
        file = checkpoint.read_tensors(path)
    except CheckpointError as error:
        print(f"{error}: taking the features anew", flush=True)
        return None
    features = Features(file.tensors.get("pooled", torch.empty(0)), file.tensors.get("logits"))
    if file.digest is None or len(features) != count:
        print(f"{path} does not hold what its name says: taking the features anew", flush=True)
        return None
    return features

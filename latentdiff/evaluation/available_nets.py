"""What there is to measure with on this machine."""

from __future__ import annotations

import shlex
from typing import Any

import torch

from latentdiff.config import DataConfig
from latentdiff.config.data import data_flags
from latentdiff.data import ImageDataset
from latentdiff.errors import CheckpointError
from latentdiff.evaluation.feature_nets import ClassifierFeatures, InceptionFeatures, find_inception
from latentdiff.evaluation.lpips_scores import find_lpips
from latentdiff.models.lpips import LPIPS
from latentdiff.runs.find import find_classifier


def find_feature_nets(
    test: ImageDataset,
    device: torch.device,
    data: DataConfig,
    inception: str = "auto",
    weights: str | None = None,
) -> dict[str, Any]:
    """The data set's classifier where it has one that takes its images, Inception where its weights are, by their keys
    in an evaluation; what cannot be had is said in a line.

    Args:
        test: The images to be measured against.
        device: Where the nets go.
        data: Which images these are, for what a message says.
        inception: ``auto``, ``require`` or ``off``.
        weights: Inception's file; none looks where :func:`~latentdiff.evaluation.feature_nets.find_inception` does.

    Raises :class:`~latentdiff.errors.CheckpointError` where there is none, or not the one that is required.
    """
    nets: dict[str, Any] = {}
    classifier = find_classifier(test.name)
    if classifier is not None:
        net = ClassifierFeatures(classifier, device)
        if net.fits(test):
            nets["classifier"] = net
            for caveat in net.caveats:
                print(f"note: {caveat}")
        else:
            print(f"no classifier distance: {net.wants}")
    if inception != "off":
        file = find_inception(weights)
        if file is not None:
            nets["inception"] = net = InceptionFeatures(file, device)
            for caveat in net.caveats:
                print(f"note: {caveat}")
        elif inception == "require":
            raise CheckpointError(
                "the FID Inception's weights are not here and could not be downloaded: name a file "
                "with --inception_weights or LATENTDIFF_INCEPTION"
            )
        else:
            print("no FID or KID: the FID Inception's weights are not here and could not be downloaded")
    if not nets:
        raise CheckpointError(
            f"there is nothing to measure {test.name} with: no classifier of these images and no FID Inception. "
            + ("" if classifier else how_to_train_classifier(test, data))
            + "Name Inception's weights: --inception_weights FILE (inception_weights=), or LATENTDIFF_INCEPTION=FILE"
        )
    return nets


def how_to_train_classifier(test: ImageDataset, data: DataConfig) -> str:
    """What to do, for a message; nothing where no command can do it: of images in memory, or without classes."""
    if data.name == "tensors" or not test.num_classes:
        return ""
    return f"Train a classifier: {shlex.join(['python', '-m', 'latentdiff.stages.classifier', *data_flags(data)])}\n"


def find_lpips_net(device: torch.device) -> LPIPS | None:
    """LPIPS where its trunk can be had; where nothing was named and nothing can be downloaded, one line says so.

    Raises :class:`~latentdiff.errors.CheckpointError` where LATENTDIFF_LPIPS names a folder that cannot serve:
    whoever named it would look for the figures in vain.
    """
    net = find_lpips(device)
    if net is None:
        print("no LPIPS: AlexNet's convolutions are not here and could not be downloaded")
    return net

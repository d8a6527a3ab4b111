"""Every setting of every part, as frozen dataclasses.

Nothing here imports torch, so that a command line can be parsed, and its help printed, without waiting for it.
The defaults are the Fashion-MNIST setting; a file under ``configs/`` holds only what differs from them.
"""

from latentdiff.config.autoencoder import AutoencoderConfig, AutoencoderLossConfig, PhaseConfig
from latentdiff.config.base import Settings, check_choice, from_dict, to_dict
from latentdiff.config.data import DataConfig
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.network import NetworkConfig
from latentdiff.config.run import RunConfig
from latentdiff.config.sampling import EngineName, SamplerName, SamplingConfig, Spacing
from latentdiff.config.trainer import Precision, TrainerConfig

__all__ = [
    "AutoencoderConfig",
    "AutoencoderLossConfig",
    "DataConfig",
    "DiffusionConfig",
    "EngineName",
    "NetworkConfig",
    "PhaseConfig",
    "Precision",
    "RunConfig",
    "SamplerName",
    "SamplingConfig",
    "Settings",
    "Spacing",
    "TrainerConfig",
    "check_choice",
    "from_dict",
    "to_dict",
]

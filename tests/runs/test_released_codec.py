from __future__ import annotations

import pytest
import torch

from latentdiff import checkpoint
from latentdiff.errors import CheckpointError
from latentdiff.runs.released_codec import with_decoder, without_shared_autoencoder


@pytest.mark.parametrize("patch", [with_decoder, without_shared_autoencoder])
def test_another_model_than_an_autoencoder_lends_no_codec(patch, tmp_path):
    network = {"image_shape": [1, 8, 8], "num_classes": 2, "channels": [3]}
    header = {"network": network, "class_names": ["a", "b"], "data": {"name": "c"}, "test_accuracy": 0.5}
    checkpoint.save(tmp_path / "c", "classifier", {"w": torch.zeros(1)}, header)
    with pytest.raises(CheckpointError, match="'classifier' where 'autoencoder' is needed"):
        patch({}, {"codec.w": torch.zeros(1)}, tmp_path / "c")

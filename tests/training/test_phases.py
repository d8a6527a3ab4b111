from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import yaml

from latentdiff.command_line import parse
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, PhaseConfig, TrainerConfig
from latentdiff.config.training_stages import AutoencoderStage
from latentdiff.errors import ConfigError
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.phases import check_phases, losses_of_phases, lr_factor, lr_progress, phase_index
from latentdiff.training.train_autoencoder import train_autoencoder
from latentdiff.training.trainer import fit
from tests.training.test_autoencoder_module import Trunk
from tests.training.test_resume import Kill, Killed

IMAGES = torch.randint(0, 256, (24, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LOSS = AutoencoderLossConfig(
    perceptual_weight=0, adversarial_weight=0, discriminator_channels=8, discriminator_warmup=16, adversarial_start=0
)
PHASES = (
    PhaseConfig(start=0.25, kl_weight=1e-2, lr_factor=0.5),
    PhaseConfig(start=0.5, adversarial_weight=0.2, frozen_encoder=True),
)
TRAINER = TrainerConfig(
    max_images=96, images_per_epoch=16, batch_size=8, lr_warmup_images=8, precision="fp32", accelerator="cpu"
)


def module(phases=PHASES, **trainer):
    torch.manual_seed(0)
    network = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
    return AutoencoderModule((1, 6, 6), network, LOSS, dataclasses.replace(TRAINER, **trainer), None, phases)


def train(own, folder, resume=False, kill=None):
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    return fit(own, (IMAGES,), folder, [EpochEnd(folder)] + ([Kill(kill)] if kill else []), resume)


def test_a_phase_changes_what_it_names_and_keeps_the_rest():
    before, second, third = losses_of_phases(LOSS, PHASES)
    assert before == LOSS
    assert second == dataclasses.replace(LOSS, kl_weight=1e-2)
    assert third == dataclasses.replace(second, adversarial_weight=0.2, frozen_encoder=True)
    assert [phase_index(PHASES, share) for share in (0.0, 0.24, 0.25, 0.49, 0.5, 1.0)] == [0, 0, 1, 1, 2, 2]
    assert [lr_factor(PHASES, index) for index in range(3)] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("starts", "frozen"),
    [((0.0,), (None,)), ((1.0,), (None,)), ((0.5, 0.5), (None, None)), ((0.2, 0.4), (True, False))],
)
def test_phases_that_cannot_follow_each_other_are_refused(starts, frozen):
    def phases():
        return [PhaseConfig(start=start, frozen_encoder=choice) for start, choice in zip(starts, frozen, strict=True)]

    with pytest.raises(ConfigError, match=r"phase|start must be a number above 0 and below 1"):
        check_phases(LOSS, phases(), TRAINER)


@pytest.mark.parametrize("kill", [16, 32, 48, 56, 72])
def test_a_run_that_is_killed_lands_in_its_phase_bit_for_bit(kill, tmp_path):
    alone = train(module(), tmp_path / "alone")
    with pytest.raises(Killed):
        train(module(), tmp_path / "killed", kill=kill)
    resumed = train(module(), tmp_path / "killed", resume=True)
    assert (resumed.phase, resumed.discriminators_since) == (2, 48)
    for ours, theirs in zip(alone.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(a, b) for a, b in zip(alone.kept_statistics, resumed.kept_statistics, strict=True))


def test_a_frozen_encoder_is_the_average_of_the_run_so_far(tmp_path):
    class Watch(EpochEnd):
        encoders = ()

        def on_train_epoch_end(self, trainer, own):
            self.encoders += ([p.clone() for p in own.ema.network.encoder.parameters()],)
            super().on_train_epoch_end(trainer, own)

    watch, own = Watch(tmp_path), module()
    (tmp_path / "samples").mkdir()
    fit(own, (IMAGES,), tmp_path, [watch])
    half = watch.encoders[2]  # after 48 of 96 images
    for average, running, then in zip(
        own.ema.network.encoder.parameters(), own.network.encoder.parameters(), half, strict=True
    ):
        # The average of equal weights is rounded in each step.
        assert torch.equal(running, then)
        torch.testing.assert_close(average, then, rtol=1e-6, atol=1e-7)
    decoders = zip(own.network.decoder.parameters(), module().network.decoder.parameters(), strict=True)
    assert any(not torch.equal(ours, at_first) for ours, at_first in decoders)
    codec = own.build_codec(IMAGES)
    assert (codec.mean.tolist(), codec.std.tolist()) == tuple(value.tolist() for value in own.kept_statistics)


def test_the_schedule_of_the_rate_ends_where_a_phase_restarts_it(tmp_path):
    phases = (PhaseConfig(start=0.25), PhaseConfig(start=0.5, lr_restart=True, lr_factor=0.5))
    points = (0.0, 0.25, 0.499, 0.5, 0.75, 1.0)
    assert [lr_progress(phases, point) for point in points] == pytest.approx([0, 0.5, 0.998, 0, 0.5, 1])
    assert [lr_progress((), point) for point in points] == list(points)

    class Rates(EpochEnd):
        seen: tuple[float, ...] = ()

        def on_train_batch_end(self, trainer, own, outputs, batch, batch_idx):
            self.seen += (own._optimizers()[0].param_groups[0]["lr"] / own.settings.lr,)

    rates = Rates(tmp_path)
    (tmp_path / "samples").mkdir()
    fit(module(phases, lr_warmup_images=0, lr_final=0.1), (IMAGES,), tmp_path, [rates])
    cosine = [0.1 + 0.45 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates.seen == pytest.approx([*cosine, *(rate / 2 for rate in cosine)])


def test_only_a_cosine_restarts():
    with pytest.raises(ConfigError, match="lr_restart of a phase needs the lr_schedule cosine, not plateau"):
        check_phases(
            LOSS,
            (PhaseConfig(start=0.5, lr_restart=True),),
            dataclasses.replace(TRAINER, lr_schedule="plateau", monitor="val_loss"),
        )


def test_without_a_weight_there_is_no_discriminator_to_train(tmp_path):
    assert module(phases=()).discriminator is None
    own = train(module(), tmp_path)
    logged = [sorted(row.keys() & {"discriminator", "adversarial"}) for row in own.history]
    # It learns alone for 16 images, then it counts.
    assert logged == [[], [], [], ["discriminator"], ["adversarial", "discriminator"], ["adversarial", "discriminator"]]


def test_phases_come_from_a_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump({"phases": [{"start": 0.5, "adversarial_weight": 0.2}, {"start": 0.75, "lr_factor": 0.1}]})
    )
    settings = parse(AutoencoderStage, ["--config", str(path)])
    assert settings.phases == (PhaseConfig(start=0.5, adversarial_weight=0.2), PhaseConfig(start=0.75, lr_factor=0.1))
    path.write_text(yaml.safe_dump({"phases": [{"start": 0.5, "adversarial": 0.2}]}))
    with pytest.raises(ConfigError, match="phases"):
        parse(AutoencoderStage, ["--config", str(path)])


def test_a_sharded_encoder_is_not_frozen_within_a_run():
    with pytest.raises(ConfigError, match=r"strategy ddp"):
        train_autoencoder("no data is read", phases=PHASES, trainer=dataclasses.replace(TRAINER, strategy="fsdp"))


def test_a_phase_without_features_trains_the_other_discriminator_alone(tmp_path):
    torch.manual_seed(0)
    loss = dataclasses.replace(LOSS, perceptual_weight=0.5, adversarial_weight=0.1, feature_adversarial_weight=0.5)
    phases = (PhaseConfig(start=0.01, perceptual_weight=0, feature_adversarial_weight=0),)
    network = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
    loss = dataclasses.replace(loss, discriminator_warmup=0)
    own = AutoencoderModule((1, 6, 6), network, loss, TRAINER, Trunk(), phases)
    before = [each.detach().clone() for each in own.discriminator.parameters()]
    assert train(own, tmp_path).images_seen == TRAINER.max_images
    assert not all(torch.equal(*pair) for pair in zip(before, own.discriminator.parameters(), strict=True))

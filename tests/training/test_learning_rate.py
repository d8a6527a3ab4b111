from __future__ import annotations

import dataclasses

import pytest
import torch

from latentdiff import distributed
from latentdiff.codec import IdentityCodec
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.learning_rate import check, count_stalls, is_best, lr_factor, stopped_early
from latentdiff.training.trainer import check_settings, fit

BASE = TrainerConfig(batch_size=10, lr_warmup_images=100, lr_final=0.1)


def course(points, **settings):
    own = dataclasses.replace(BASE, **settings)
    return [lr_factor(own, images, images / 1000, []) for images in points]


def test_every_schedule_warms_up_and_then_takes_its_course():
    points = [0, 40, 500, 1000]
    warm = [0.1, 0.5]
    assert course(points, lr_schedule="constant") == pytest.approx([*warm, 1, 1])
    assert course(points, lr_schedule="cosine")[2:] == pytest.approx([0.55, 0.1])
    assert course([500, 750, 1000], lr_schedule="cosine_then_constant", lr_decay_share=0.5) == pytest.approx([0.1] * 3)
    assert course([250], lr_schedule="cosine_then_constant", lr_decay_share=0.5) == pytest.approx([0.55])
    steps = course([199, 200, 399, 400], lr_schedule="step", lr_step_images=200, lr_step_factor=0.5)
    assert steps == pytest.approx([1, 0.5, 0.5, 0.25])


def rows(*values, name="distance"):
    return [{name: value} if value is not None else {"loss": 1.0} for value in values]


def test_plateau_lowers_the_rate_whenever_the_metric_stalls():
    settings = dataclasses.replace(
        BASE, lr_schedule="plateau", monitor="distance", lr_patience=2, lr_step_factor=0.1, lr_warmup_images=0
    )
    for values, expected in (
        ((5, 4, 3), 1.0),
        ((5, 6), 1.0),
        ((5, 6, None, 6), 0.1),  # epochs without the metric do not count
        ((5, 6, 6, 4, 5, 5), 0.01),
    ):
        assert lr_factor(settings, 500, 0.5, rows(*values)) == pytest.approx(expected)
    up = dataclasses.replace(settings, monitor="psnr", monitor_mode="max")
    assert count_stalls(rows(20, 21, 22, name="psnr"), up, 2)[0] == 0
    assert count_stalls(rows(22, 21, 20, name="psnr"), up, 2)[0] == 1


def test_stopping_early():
    settings = dataclasses.replace(BASE, monitor="distance", stop_patience=3)
    assert not stopped_early(settings, rows(3, 2, 2, 2))
    assert stopped_early(settings, rows(3, 2, 2, 2, 2))
    assert not stopped_early(BASE, rows(1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_schedule": "plateau"}, "lr_schedule plateau needs --trainer.monitor"),
        ({"stop_patience": 3}, "stop_patience needs --trainer.monitor"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be a whole number from 1 to"),
        ({"lr_decay_share": 0.0}, "lr_decay_share"),
        (
            {"lr_schedule": "step", "lr_step_factor": 1.0},
            "lr_step_factor must be .* above 0 and below 1, not 1.0",
        ),
        (
            {"lr_schedule": "step", "lr_step_factor": 0.0},
            "lr_step_factor must be .* above 0 and below 1, not 0.0",
        ),
        ({"lr_schedule": "plateau", "monitor": "kid", "lr_step_factor": 2.0}, "above 0 and below 1, not 2.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check(dataclasses.replace(BASE, **settings))


def test_a_batch_cannot_have_more_parts_than_images(monkeypatch):
    settings = dataclasses.replace(BASE, gradient_accumulation_steps=10, accelerator="cpu")
    check_settings(settings)
    told = "gradient_accumulation_steps 11 splits the 10 images of a batch into more parts than there are images"
    with pytest.raises(ValueError, match=told):
        check_settings(dataclasses.replace(settings, gradient_accumulation_steps=11))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(
        ValueError, match="gradient_accumulation_steps 10 splits the 5 images of a batch that each process has"
    ):
        check_settings(settings)


SETTINGS = TrainerConfig(max_images=400, images_per_epoch=40, batch_size=20, accelerator="cpu", precision="fp32")
IMAGES = torch.randint(0, 256, (40, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def diffusion(**settings):
    torch.manual_seed(0)
    network = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    own = dataclasses.replace(SETTINGS, **settings)
    return DiffusionModule(IdentityCodec((1, 6, 6)), 3, network, DiffusionConfig(), own)


def autoencoder(**settings):
    torch.manual_seed(0)
    config = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
    loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_start=0, discriminator_channels=8)
    return AutoencoderModule((1, 6, 6), config, loss, dataclasses.replace(SETTINGS, **settings), None)


def train(module, folder, validate=dict):
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    tensors = (IMAGES, torch.arange(40) % 3) if isinstance(module, DiffusionModule) else (IMAGES,)
    epoch_end = EpochEnd(folder)
    epoch_end.validate = validate
    return fit(module, tensors, folder, [epoch_end], resume=False)


def test_a_run_ends_where_its_metric_stalls_and_says_so(tmp_path, capsys):
    found, best = iter([1.5, 0.25, 0.5, 0.25]), tmp_path / "best.safetensors"
    best.touch()  # a stage of its own saves it
    trained = train(diffusion(monitor="distance", stop_patience=2), tmp_path, lambda: {"distance": next(found)})
    assert trained.images_seen == 160  # a best after 80, and two epochs without a better one
    assert (
        "stopped early: distance has not improved for 2 measurements (trainer.stop_patience). Its best value is 0.25, "
        f"after 80 images, in {best}" in capsys.readouterr().out
    )


def test_a_run_that_ends_with_its_budget_is_not_called_stopped(tmp_path, capsys):
    train(diffusion(monitor="distance", stop_patience=2, max_images=80), tmp_path, lambda: {"distance": 1.0})
    assert "stopped early" not in capsys.readouterr().out


def test_an_autoencoder_ends_where_its_own_metric_stalls(tmp_path):
    # At rate 0 the reconstructions stay what they were, and with them their PSNR.
    module = autoencoder(monitor="psnr", monitor_mode="max", stop_patience=2, lr=0.0)
    trained = train(module, tmp_path, lambda: module.validate(IMAGES))
    assert trained.images_seen == 120
    assert len({row["psnr"] for row in trained.history}) == 1


def test_a_plateau_lowers_both_rates_of_an_autoencoder(tmp_path):
    found = iter([20.0, 21.0, 21.0, 21.0, 22.0, 22.0])
    plateau = {"lr_schedule": "plateau", "lr_patience": 2, "lr_step_factor": 0.1, "lr_warmup_images": 0}
    module = autoencoder(monitor="psnr", monitor_mode="max", max_images=240, lr=1e-3, **plateau)
    trained = train(module, tmp_path, lambda: {"psnr": next(found)})
    assert [row["lr"] for row in trained.history] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4])
    rates = [group["lr"] for optimizer in trained.trainer.optimizers for group in optimizer.param_groups]
    assert max(rates) == pytest.approx(1e-4)  # the discriminator's, from the same peak


def test_a_metric_that_is_not_measured_is_named_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match=r"monitor is 'fid'; this run measures .*loss"):
        train(diffusion(monitor="fid", stop_patience=2), tmp_path)
    assert (tmp_path / "last.ckpt").is_file()  # nothing is lost: the run can be resumed with another metric


@pytest.mark.parametrize("make", [diffusion, autoencoder])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(make, tmp_path, monkeypatch):
    # Noise that does not depend on how the batch is cut.
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    runs = [train(make(gradient_accumulation_steps=count, max_images=60), tmp_path / str(count)) for count in (1, 3)]
    for a, b in zip(*(run.parameters() for run in runs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert runs[0].history[-1].keys() == runs[1].history[-1].keys()


def test_only_a_new_best_of_what_is_watched_is_kept():
    settings = TrainerConfig(monitor="kid")
    rows = [{"kid": 3.0}, {"loss": 1.0}, {"kid": 3.0}, {"kid": 2.0}, {"kid": 2.5}]
    assert [is_best(settings, rows[: i + 1]) for i in range(5)] == [True, False, False, True, False]
    higher = TrainerConfig(monitor="kid", monitor_mode="max")
    assert [is_best(higher, rows[: i + 1]) for i in range(5)] == [True, False, False, False, False]
    assert not is_best(TrainerConfig(), rows)

from __future__ import annotations

import dataclasses

import pytest
import torch

from latentdiff import checkpoint
from latentdiff.codec import IdentityCodec
from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DiffusionConfig,
    NetworkConfig,
    RunConfig,
    TrainerConfig,
)
from latentdiff.errors import CheckpointError
from latentdiff.inference.model import DiffusionModel
from latentdiff.runs import run_folder
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.fine_tune import check_initial_weights, load_initial_weights
from latentdiff.training.provenance import provenance
from latentdiff.training.trainer import fit

SETTINGS = TrainerConfig(max_images=64, images_per_epoch=32, batch_size=16, accelerator="cpu", precision="fp32")
CODEC = IdentityCodec((1, 6, 6))
NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)


def module(channels=8, seed=0):
    torch.manual_seed(seed)
    return DiffusionModule(CODEC, 3, dataclasses.replace(NETWORK, channels=(channels,)), DiffusionConfig(), SETTINGS)


def train(own, folder, resume=False):
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    tensors = (CODEC.encode(torch.zeros(20, 1, 6, 6, dtype=torch.uint8)), torch.arange(20) % 3)
    return fit(own, tensors, folder, [EpochEnd(folder)], resume)


def weights(own):
    return [p.detach().clone() for p in own.parameters()]


def cost(own):
    class Data:
        name, source, fingerprint, class_names = "d", "full", "f", ("a",)
        split_description, image_shape = "", (1, 8, 8)

        def __len__(self):
            return 20

    return provenance(own, Data(), {})


def test_a_run_starts_from_all_the_weights_of_another_and_counts_its_cost(tmp_path):
    first = train(module(), tmp_path / "a")
    second = module(seed=1)
    load_initial_weights(second, tmp_path / "a", "diffusion")
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    second.commands = ["train b"]
    second = train(second, tmp_path / "b")
    assert second.images_seen == 64
    assert cost(second)["images_seen"] == 128
    assert cost(second)["seconds"] == pytest.approx(first.seconds + second.seconds)
    assert cost(second)["flops"] == first.step_flops.total + second.step_flops.total > 0
    # ... also after being resumed, and when a third starts from it.
    resumed = module()
    resumed.commands = ["resume b"]
    resumed = train(resumed, tmp_path / "b", resume=True)
    assert resumed.started_from == second.started_from
    # ... and its record begins with the command that it was begun by.
    assert (cost(resumed)["command"], cost(resumed)["resumed_by"]) == ("train b", ["resume b"])
    third = module()
    load_initial_weights(third, tmp_path / "b" / "last.ckpt", "diffusion")
    assert (third.started_from["images_seen"], third.started_from["command"]) == (128, "train b")
    assert third.started_from["flops"] == cost(second)["flops"]
    second.started_from["flops"] = None  # a version that did not count
    assert cost(second)["flops"] is None


def test_the_average_goes_on_where_it_was(tmp_path):
    first = train(module(), tmp_path / "a")
    for parameter in first.network.parameters():  # the running weights have wandered off
        parameter.data.add_(1.0)
    before = first.ema.network.head.weight.clone()
    second = module()
    second.load_state_dict(first.state_dict())
    second.started_from = {"images_seen": 1_000_000, "seconds": 1.0}
    second.ema.update(second.network, second.images_seen_after_step, SETTINGS.batch_size)
    moved = (second.ema.network.head.weight - before).abs().max()
    assert 0 < moved < 1e-3


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_there_again(tmp_path):
    run = RunConfig(folder=str(tmp_path), resume=True)
    assert not run_folder.resumed_folder(run)
    (tmp_path / "last.ckpt").touch()
    assert run_folder.resumed_folder(run)
    assert not run_folder.resumed_folder(dataclasses.replace(run, resume=False))


def test_a_model_file_gives_its_averaged_network(tmp_path, capsys):
    first = train(module(), tmp_path / "a")
    names = ("a", "b", "c")
    model = DiffusionModel(first.ema.network, NETWORK, first.diffusion, CODEC, names)
    model.save(tmp_path / "model.safetensors", {"images_seen": 64, "seconds": 2.0, "command": "first"})
    second = module(seed=1)
    load_initial_weights(second, tmp_path / "model.safetensors", "diffusion")
    assert "they must first learn" not in capsys.readouterr().out
    other = DiffusionModule(CODEC, 3, NETWORK, DiffusionConfig(target="eps"), SETTINGS)
    load_initial_weights(other, tmp_path / "model.safetensors", "diffusion")
    assert "were trained with target v: they must first learn the new settings" in capsys.readouterr().out
    for target in (second.network, second.ema.network):
        pairs = zip(first.ema.network.parameters(), target.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert second.started_from["command"] == "first"


@pytest.mark.parametrize("kind", ["run", "file"])
def test_weights_that_would_fit_and_mean_something_else_are_refused(tmp_path, kind):
    first, names = train(module(), tmp_path / "a"), ("a", "b", "c")
    DiffusionModel(first.ema.network, NETWORK, first.diffusion, CODEC, names).save(tmp_path / "m.safetensors")
    source = tmp_path / ("a" if kind == "run" else "m.safetensors")
    heads = dataclasses.replace(NETWORK, head_channels=4)
    assert NETWORK.middle_attention
    check_initial_weights(source, "diffusion", NETWORK)
    check_initial_weights(source, "diffusion", dataclasses.replace(heads, middle_attention=False))  # nothing has heads
    with pytest.raises(CheckpointError, match=r"trained with network\.head_channels 8, and the settings ask for 4"):
        check_initial_weights(source, "diffusion", heads)


def test_a_run_says_that_its_process_was_another(tmp_path, capsys):
    train(module(), tmp_path / "a")
    other = DiffusionModule(CODEC, 3, NETWORK, DiffusionConfig(target="x0", num_train_steps=500), SETTINGS)
    load_initial_weights(other, tmp_path / "a", "diffusion")
    assert "were trained with target v and num_train_steps 1000: they must first learn" in capsys.readouterr().out


@pytest.mark.parametrize("snapshots", [(0, 2), (2, 0), (2, 2)])
def test_averages_of_a_run_are_not_those_of_the_next(tmp_path, snapshots):
    runs = [dataclasses.replace(SETTINGS, ema_snapshots=count) for count in snapshots]
    first, second = (DiffusionModule(CODEC, 3, NETWORK, DiffusionConfig(), settings) for settings in runs)
    first = train(first, tmp_path / "a")
    load_initial_weights(second, tmp_path / "a", "diffusion")
    assert all(torch.equal(*pair) for pair in zip(weights(first.network), weights(second.network), strict=True))
    if all(snapshots):  # the second's own are as they were made, and not the first's
        theirs, ours = ([*own.averages.copies[0].parameters()] for own in (first, second))
        assert not any(torch.equal(*pair) for pair in zip(theirs, ours, strict=True) if pair[0].std() > 0)


def test_a_frozen_encoder_has_the_statistics_of_its_own_model(tmp_path):
    loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0, frozen_encoder=True)

    def autoencoder(seed):
        torch.manual_seed(seed)
        return AutoencoderModule((1, 9, 8), AutoencoderConfig(patch=2, channels=(32,)), loss, SETTINGS, None)

    def save(own, **more):
        state = {"state_dict": own.state_dict(), "latentdiff": {"images_seen": 4, "seconds": 1.0, **more}}
        torch.save(state, tmp_path / "last.ckpt")

    first, later, second = autoencoder(0), autoencoder(1), autoencoder(2)
    codec = first.build_codec(torch.randint(0, 256, (8, 1, 9, 8), dtype=torch.uint8))
    codec.save(tmp_path / "model.safetensors")
    save(first)
    load_initial_weights(second, tmp_path, "autoencoder")
    assert all(torch.equal(*pair) for pair in zip(second.kept_statistics, (codec.mean, codec.std), strict=True))
    save(later)  # the run was resumed, and its model is that of the shorter training
    with pytest.raises(CheckpointError, match=r"has trained the encoder further than .*model\.safetensors"):
        load_initial_weights(second, tmp_path, "autoencoder")
    kept = (torch.ones(2), torch.full((2,), 3.0))
    save(later, kept_statistics=kept)  # a phase had frozen it
    load_initial_weights(second, tmp_path, "autoencoder")
    assert all(torch.equal(*pair) for pair in zip(second.kept_statistics, kept, strict=True))


def test_what_does_not_fit_or_is_not_there_is_named(tmp_path):
    train(module(), tmp_path / "a")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_initial_weights(module(channels=16), tmp_path / "a", "diffusion")
    with pytest.raises(CheckpointError, match="there is no"):
        load_initial_weights(module(), tmp_path / "absent", "diffusion")
    with pytest.raises(CheckpointError, match="holds a run of kind 'diffusion' where 'autoencoder' is needed"):
        load_initial_weights(module(), tmp_path / "a", "autoencoder")
    with pytest.raises(CheckpointError, match="of kind 'autoencoder' where 'diffusion' is needed: name another"):
        load_initial_weights(module(), "checkpoints/fashion-mnist/autoencoder.safetensors", "diffusion")
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        load_initial_weights(module(), tmp_path / "broken.ckpt", "diffusion")


def test_a_discriminator_of_features_begins_untrained_where_there_was_none(tmp_path, capsys):
    trunk = type("Trunk", (torch.nn.Module,), {"widths": (3,)})()

    def autoencoder(weight, channels=4):
        loss = AutoencoderLossConfig(
            adversarial_weight=0, feature_adversarial_weight=weight, feature_discriminator_channels=channels
        )
        return AutoencoderModule((1, 8, 8), AutoencoderConfig(channels=(32,)), loss, SETTINGS, trunk)

    def save(own, path):
        torch.save({"state_dict": own.state_dict(), "latentdiff": {"images_seen": 4, "seconds": 1.0}}, path)
        return path

    without, first = autoencoder(0.0), autoencoder(0.5)
    first.feature_discriminator.update_mean_squares([torch.ones(3)])
    bare, path = save(without, tmp_path / "bare.ckpt"), save(first, tmp_path / "last.ckpt")
    same, other = autoencoder(0.5), autoencoder(0.5, channels=6)
    load_initial_weights(same, path, "autoencoder")
    assert torch.equal(same.feature_discriminator.mean_squares[0], torch.ones(3))
    assert "untrained" not in capsys.readouterr().out
    for own, source in ((other, path), (autoencoder(0.5), bare)):
        load_initial_weights(own, source, "autoencoder")
        assert not own.feature_discriminator.mean_squares[0].any()
        assert f"the feature discriminator begins untrained: {source}" in capsys.readouterr().out
    load_initial_weights(without, path, "autoencoder")
    assert without.feature_discriminator is None


def test_a_discriminator_of_another_kind_begins_untrained(tmp_path, capsys):
    def autoencoder(seed, weight=0.1, bands=False):
        torch.manual_seed(seed)
        loss = AutoencoderLossConfig(
            perceptual_weight=0, adversarial_weight=weight, discriminator_bands=bands, discriminator_channels=8
        )
        return AutoencoderModule((1, 8, 8), AutoencoderConfig(channels=(32,)), loss, SETTINGS, None)

    def judgement(own):
        return own.discriminator.eval()(torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8))

    first, path = autoencoder(0), tmp_path / "last.ckpt"
    torch.save({"state_dict": first.state_dict(), "latentdiff": {"images_seen": 4, "seconds": 1.0}}, path)
    same = autoencoder(1)
    load_initial_weights(same, path, "autoencoder")
    torch.testing.assert_close(judgement(same), judgement(first))
    assert "untrained" not in capsys.readouterr().out
    other = autoencoder(1, bands=True)
    untrained = judgement(other)
    load_initial_weights(other, path, "autoencoder")
    torch.testing.assert_close(judgement(other), untrained)
    assert f"the discriminator begins untrained: {path}" in capsys.readouterr().out
    without = autoencoder(1, weight=0.0)
    load_initial_weights(without, path, "autoencoder")
    assert without.discriminator is None
    for own in (same, other, without):
        assert all(torch.equal(*pair) for pair in zip(weights(own.network), weights(first.network), strict=True))


@pytest.mark.parametrize("kind", ["run", "file"])
def test_a_decoder_that_gains_a_refinement_starts_as_the_function_that_it_was(tmp_path, kind):
    def autoencoder(seed, refine_channels):
        torch.manual_seed(seed)
        config = AutoencoderConfig(patch=2, channels=(32,), refine_channels=refine_channels)
        loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0, frozen_encoder=True)
        return AutoencoderModule((1, 9, 8), config, loss, SETTINGS, None)

    first = autoencoder(0, 0)
    if kind == "run":
        path = tmp_path / "last.ckpt"
        torch.save({"state_dict": first.state_dict(), "latentdiff": {"images_seen": 4, "seconds": 1.0}}, path)
    else:
        path, codec = tmp_path / "model.safetensors", first.build_codec(torch.zeros(2, 1, 9, 8, dtype=torch.uint8))
        header = {"codec": codec.header(), "provenance": {"images_seen": 4, "seconds": 1.0}}
        checkpoint.save(path, "autoencoder", codec.state(), header)
    z = torch.randn(3, *first.network.latent_shape)
    second = autoencoder(1, 8)
    assert not torch.allclose(second.network.decode(z), first.network.decode(z))
    load_initial_weights(second, path, "autoencoder")
    for network in (second.network, second.ema.network):
        assert torch.equal(network.decode(z), first.network.decode(z))
    # Going on from such a one takes its refinement along.
    torch.nn.init.normal_(second.network.decoder.refine.layers[-1].weight)
    torch.save(
        {"state_dict": second.state_dict(), "latentdiff": {"images_seen": 4, "seconds": 1.0}}, tmp_path / "b.ckpt"
    )
    third = autoencoder(2, 8)
    load_initial_weights(third, tmp_path / "b.ckpt", "autoencoder")
    weight = third.network.decoder.refine.layers[-1].weight
    assert torch.equal(weight, second.network.decoder.refine.layers[-1].weight)

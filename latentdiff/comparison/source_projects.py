"""The five class projects behind this one: their models, trained for minutes each, and their tables beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentdiff import resources as shelf
from latentdiff.comparison.cached_runs import (
    EvaluationConditions,
    evaluate_once,
    parse_settings,
    train_once,
)
from latentdiff.comparison.released_models import evaluate_released
from latentdiff.config import DataConfig
from latentdiff.config.data import data_flags
from latentdiff.config.run import default_folder
from latentdiff.data import load_split
from latentdiff.errors import CheckpointError, DataError, ReportError
from latentdiff.evaluation.feature_nets import find_inception
from latentdiff.report import sources_tables as tables
from latentdiff.report.evaluation import Evaluation

SECONDS, NUM_IMAGES = 300.0, 1000


@dataclass(frozen=True)
class SourceModel:
    """A model of one of the projects.

    Attributes:
        name: Of its run, and of its config under configs/sources unless ``config`` says otherwise.
        project: Which of the five it belongs to.
        about: What it is, in a few words.
        sampling: How it is sampled, as flags of the evaluate stage.
        stage: What trains it.
        flags: Settings beside the config's; ``{root}`` is where the runs are.
        config: Its config, where that has another name.
        kid: Its project looked at KID while it trained; without Inception the classifier's distance serves.
    """

    name: str
    project: int
    about: str
    sampling: tuple[str, ...] = ()
    stage: str = "diffusion"
    flags: tuple[str, ...] = ()
    config: str | None = None
    kid: bool = False


EDM_SAMPLING = ("--sampler=heun", "--steps=18")
# Enough for the released model (docs/results/samplers.md). Networks of tens of millions of parameters are slow.
FAST_SAMPLING = ("--sampler=dpmpp_2m", "--steps=10")
SDE_SAMPLING = ("--sampler=predictor_corrector", "--steps=50")
# All are measured against the same images, those of the data set.
DATA_AS_IT_IS = ("--data.size=null", "--data.colour=auto")
RUNS = (
    SourceModel(
        "ddpm_unet",
        1,
        "DDPM U-Net, linear schedule, eps",
        FAST_SAMPLING,
        flags=(*DATA_AS_IT_IS, "--quality_images=100", "--sample_every=2"),
        kid=True,
    ),
    SourceModel("karras_base", 2, "residual network told neither noise nor class, EDM", EDM_SAMPLING),
    SourceModel("karras_batch_norm", 2, "the same, told the noise by conditional batch norm", EDM_SAMPLING),
    SourceModel("karras_class", 2, "the same, wider and told the class", FAST_SAMPLING),
    *(
        SourceModel(
            f"karras_class_{channels}_{blocks}_{embedding}",
            2,
            f"told the class, {channels} channels, {blocks} blocks, embedding of {embedding}",
            FAST_SAMPLING,
            flags=(
                f"--network.channels=[{channels}]",
                f"--network.num_res_blocks={blocks}",
                f"--network.embedding_channels={embedding}",
            ),
            config="karras_class",
        )
        for channels, blocks, embedding in ((64, 6, 32), (64, 8, 64), (128, 6, 32))
    ),
    SourceModel(
        "ddpm_cifar_shape",
        3,
        "DDPM U-Net of the CIFAR-10 shape, from scratch, on MNIST",
        config="ddpm_finetune",
        flags=(
            *DATA_AS_IT_IS,
            "--data.name=mnist",
            "--data.source=auto",
            "--trainer.monitor=null",
            "--trainer.stop_patience=null",
        ),
    ),
    SourceModel(
        "ddpm_finetune",
        3,
        "the same, fine-tuned from it, bf16, early stopping",
        FAST_SAMPLING,
        flags=(*DATA_AS_IT_IS, "--init={root}/ddpm_cifar_shape"),
    ),
    SourceModel("ddpm_variance", 4, "mean and variance learned together, T = 200", FAST_SAMPLING),
    SourceModel("ddpm_attention", 4, "U-Net with attention at each level, T = 1000", FAST_SAMPLING),
    SourceModel("ddpm_attention_500", 4, "the same, T = 500", FAST_SAMPLING),
    SourceModel("score_ve", 5, "variance-exploding SDE, Gaussian Fourier features", SDE_SAMPLING),
    SourceModel("score_ve_class", 5, "the same, class-conditional, with attention", SDE_SAMPLING),
    SourceModel("denoising_autoencoder", 5, "restores noisy images", stage="autoencoder"),
    SourceModel(
        "score_ve_latent",
        5,
        "the score model on its latents",
        SDE_SAMPLING,
        flags=("--autoencoder={root}/denoising_autoencoder/model.safetensors",),
    ),
)
# Only a start for another: its images are of another data set.
FINE_TUNING_START = "ddpm_cifar_shape"
# The data sets of the third project, whose models at real size are among the released ones.
THIRD_PROJECT_DATA_SETS = ("flowers-102", "celeba")


def run_sources(
    data: DataConfig, seconds: float | None = None, num_images: int | None = None, flags: tuple[str, ...] = ()
) -> dict[str, list[Path]]:
    """Train each model of the projects for ``seconds``, and evaluate it and the released models.

    What is there already is kept. ``flags`` are further settings of every training run. The model that is fine-tuned
    comes from MNIST; where that cannot be had, the two runs are left out, and a line says so.

    Returns: the folders of the evaluations, of the sources' models under ``sources``, of the released ones under
    ``released``.
    """
    # Of another length they are other runs: one must not go on with another's latents.
    length = f"{SECONDS if seconds is None else seconds:g}"
    root = default_folder("sources", data.name) / f"{length}-seconds"
    with_kid = find_inception() is not None
    mnist = "the third project's models are left out, since the one to fine-tune comes from MNIST"
    runs = RUNS if _is_available(_other_data_set(data, "mnist"), mnist) else tuple(r for r in RUNS if r.project != 3)
    arguments = {source: _arguments(source, data, root, length, flags, with_kid) for source in runs}
    for source, own in arguments.items():
        parse_settings(source.stage, own)  # of all, before the first is trained
    here = EvaluationConditions.on_this_machine(data, NUM_IMAGES if num_images is None else num_images)
    found = []
    for source, own in arguments.items():
        model = train_once(source.stage, own, root / source.name)
        if source.name != FINE_TUNING_START:
            asked = ["--model", str(model), "--name", source.name, *source.sampling]
            found.append(evaluate_once(asked, root / "evaluate" / here.folder / source.name, model, here))
    return {"sources": found, "released": evaluate_released(data, here.num_images)}


def _arguments(
    source: SourceModel, data: DataConfig, root: Path, length: str, flags: tuple[str, ...], with_kid: bool
) -> list[str]:
    """The settings of a source's training run."""
    # Epochs as long as a fraction of a minute's training, so that there is a curve to show.
    config = ["--config", f"sources/{source.config or source.name}.yaml", "--trainer.images_per_epoch=1500"]
    diffusion = source.stage == "diffusion"
    quiet = ["--quality_images=0", "--sample_every=1000", "--validation_images=200"] if diffusion else []
    budget = ["--trainer.max_images=null", f"--trainer.max_seconds={length}"]
    own = [flag.format(root=root) for flag in source.flags]
    own += ["--quality_net=inception"] if source.kid and with_kid else []
    return [*config, *data_flags(data), *quiet, *budget, *flags, *own]


def run_third_project(
    like: DataConfig, seconds: float | None = None, num_images: int | None = None, flags: tuple[str, ...] = ()
) -> dict[str, list[Path]]:
    """The third project's comparison on its own data sets: noise, a VAE trained for ``seconds`` where none is released,
    and the released models of each that is here, with FIDs in Inception's earliest layer where there is Inception; the
    folders of the evaluations by data set.

    Args:
        like: Where data lie.
        seconds: Of the VAE's training.
        num_images: Of each model.
        flags: Further settings of that training.
    """
    taps = ("--inception_taps=[64]",) if find_inception() else ()
    length = f"{SECONDS if seconds is None else seconds:g}"
    found = {}
    for name in THIRD_PROJECT_DATA_SETS:
        data, otherwise = _other_data_set(like, name), f"the third project's comparison on {name} is left out"
        if not _is_available(data, otherwise):
            continue
        root = default_folder("sources", name)
        try:
            here = EvaluationConditions.on_this_machine(data, NUM_IMAGES if num_images is None else num_images)
            models = evaluate_released(data, here.num_images, taps, root)
            if shelf.find_checkpoint(f"{name}/vae_baseline.safetensors") is None:
                budget = ["--trainer.max_images=null", f"--trainer.max_seconds={length}", *flags]
                settings = ["--config", f"{name}/vae_baseline.yaml", *data_flags(data), *budget]
                vae = train_once("autoencoder", settings, root / f"vae_baseline-{length}-seconds")
                asked = ["--model", str(vae), "--mode", "prior", "--name", "vae_baseline", *taps]
                models.append(evaluate_once(asked, root / here.folder / vae.parent.name, vae, here))
            found[name] = models
        # These have no classifier: without Inception nothing measures them. Nor need their models be here.
        except (CheckpointError, ReportError) as error:
            print(f"{otherwise}: {error}")
    return found


def _other_data_set(data: DataConfig, name: str) -> DataConfig:
    """Another data set where this one's lie."""
    return DataConfig(name=name, root=data.root, cache_folder=data.cache_folder)


def _is_available(data: DataConfig, otherwise: str) -> bool:
    try:
        load_split(data, "test")
    except DataError as error:
        print(f"{otherwise}: {error}")
        return False
    return True


def results_markdown(
    found: dict[str, list[Evaluation]], data: DataConfig, thirds: dict[str, list[Evaluation]] | None = None
) -> str:
    """The projects' tables as Markdown, what they published beside what is reached here.

    Args:
        found: What :func:`run_sources` made.
        data: Its data set.
        thirds: What :func:`run_third` made.
    """
    projects = {source.name: (source.project, source.about) for source in RUNS}
    sections = [
        tables.training_table(found["sources"], projects),
        tables.published_table(found, projects) if data.name == "fashion-mnist" else "",
        tables.class_table(found),
        *(
            tables.baseline_table(items, name)
            for name, items in {data.name: found["released"], **(thirds or {})}.items()
        ),
        tables.course_table(found["sources"]),
    ]
    return "\n".join(section for section in sections if section)

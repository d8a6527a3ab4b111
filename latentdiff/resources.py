"""Files that come with latentdiff, released checkpoints and configs, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def find_checkpoint(name: str) -> Path | None:
    """Return the path of the released file ``checkpoints/<name>``, or None.

    Args:
        name: Name within the folder, such as ``fashion-mnist/latent.safetensors``.
    """
    return _find("checkpoints", name)


def find_config(name: str) -> Path | None:
    """Return the path of the config ``configs/<name>``, such as ``fashion-mnist/pixel.yaml``, or None."""
    return _find("configs", name)


def _find(folder: str, name: str) -> Path | None:
    candidates = (PACKAGE.parent / folder / name, PACKAGE / folder / name)
    return next((path for path in candidates if path.is_file()), None)


def resolve_checkpoint(path: Path | str) -> Path:
    """The model file that ``path`` means: a file, the file in a run's folder, or a released model's name."""
    path = Path(path).expanduser()
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    return path if path.exists() else find_checkpoint(str(path).removeprefix("checkpoints/")) or path

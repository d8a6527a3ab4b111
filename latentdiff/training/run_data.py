"""What a run is trained on: ``data.json`` in its folder, which a resumed run is checked against.

The record speaks of content alone. The same images in another place, or in a zip, are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff.data import ImageDataset
from latentdiff.data.identity import differences, identity, list_images
from latentdiff.digest import json_with_digest, read_json
from latentdiff.errors import CheckpointError
from latentdiff.files import write_atomically

FILE = "data.json"
SCHEMA = 1
# Differences in one message.
SHOWN = 5


@dataclass(frozen=True, eq=False)
class RunData:
    """What a run is trained on.

    Args:
        train: The training images.
        held_out: Those that it is measured on while it trains.
        codec: The fingerprint of the autoencoder whose latents they become; None for pixels.
        perceptual: The digest of the network of the perceptual loss; None where there is none.
    """

    train: ImageDataset
    held_out: ImageDataset
    codec: str | None = None
    perceptual: str | None = None

    def save(self, folder: Path) -> None:
        """Write the record into a run's folder."""
        record = {
            "schema": SCHEMA,
            "codec": self.codec,
            "perceptual": self.perceptual,
            **{
                name: identity(data) | {"files": list_images(data)}
                for name, data in (("train", self.train), ("held_out", self.held_out))
            },
        }
        write_atomically(folder / FILE, lambda path: path.write_bytes(json_with_digest(record)))

    def check(self, folder: Path | str) -> None:
        """Raise :class:`~latentdiff.errors.CheckpointError` where the run in ``folder`` was trained on something else.

        The message names what differs. A folder without a record is left to the check of its ``last.ckpt``, which
        knows the fingerprint.
        """
        folder = Path(folder)
        before = _read(folder)
        if before is None:
            return
        found: list[str] = []
        for name, data, what in (("train", self.train, ""), ("held_out", self.held_out, "validation images: ")):
            now, old = identity(data), before[name]
            keys = "fingerprint", "class_names", "captions"
            if all(old.get(key) == now.get(key) for key in keys):
                continue
            # What is said of the training images need not be said again.
            if not found:
                found += [what + word for word in differences(old, now, old["files"], list_images(data))]
        refuse(str(folder), found)
        if before["codec"] != self.codec:
            raise CheckpointError(
                f"{folder} was trained on {_codec_words(before['codec'], 'another autoencoder')}, and not on "
                f"{_codec_words(self.codec, 'the one given now')}. Give the first one, or "
                f"{start_anew(str(folder))}"
            )
        if before["perceptual"] != self.perceptual:
            raise CheckpointError(
                f"{folder} was trained with another perceptual network, or with one that is missing now. Name it "
                f"with --loss.perceptual_weights, or {start_anew(str(folder))}"
            )


def check_against_checkpoint(before: dict[str, Any] | None, fingerprint: str | None, now: dict[str, Any]) -> None:
    """Check a resumed run by what its ``last.ckpt`` knows of its training images.

    Args:
        before: The record of :func:`~latentdiff.data.identity.identity`; None in checkpoints of older versions.
        fingerprint: The fingerprint, which older versions know; None in still older ones.
        now: The record of the images that there are now.

    Raises :class:`~latentdiff.errors.CheckpointError` for other images, naming the differences that are known.
    """
    if before is not None:
        refuse("the run", differences(before, now))
    elif fingerprint is not None and fingerprint != now["fingerprint"]:
        refuse("the run", ["images, labels or splits differ"])
    elif fingerprint is None:
        print("the run has no record of its training images: it is not checked whether these are the same")


def refuse(run: str, found: list[str]) -> None:
    """Raise :class:`~latentdiff.errors.CheckpointError` with the differences ``found``, if there are any."""
    if not found:
        return
    shown = "; ".join(found[:SHOWN]) + ("; …" if len(found) > SHOWN else "")
    raise CheckpointError(f"{run} was trained on other data: {shown}.\nGo on with its own data, or {start_anew(run)}")


def start_anew(run: str) -> str:
    """How to go on with other data, classes or rates."""
    source = "FOLDER" if run == "the run" else run
    return f"start a new run from its weights: --init {source} --run.folder NEW (init=, folder= in Python)."


def _read(folder: Path) -> dict[str, Any] | None:
    """The record in a folder; None, and a line that says so, where it is missing or damaged."""
    try:
        record, signed = read_json(folder / FILE)
    except OSError:
        return None
    except ValueError:
        record, signed = None, False
    if signed and record.get("schema") == SCHEMA:
        return record
    print(f"{folder / FILE} is damaged: a change of the data is still noticed, but its details are not known")
    return None


def _codec_words(fingerprint: str | None, which: str) -> str:
    return "pixels" if fingerprint is None else f"the latents of {which} ({fingerprint})"

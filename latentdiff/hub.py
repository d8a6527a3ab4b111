"""Models of the Hugging Face Hub: ``hf:USER/NAME`` is downloaded once, into the Hub's own cache."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from latentdiff.errors import CheckpointError
from latentdiff.extras import import_extra

PREFIX, EXTRA = "hf:", "hub"
MODEL, CONFIG = "model.safetensors", "config.json"
# hf:USER/NAME, then /FILE and @REVISION, which may both be missing. A revision may hold slashes: refs/pr/1.
NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@\s]+))?(?:@(?P<revision>[^\s@]+))?")
FORM = "hf:USER/NAME, hf:USER/NAME@REVISION or hf:USER/NAME/FILE.safetensors"
# Of the Hub's cache: models--USER--NAME/snapshots/COMMIT/FILE.
CACHED = re.compile(
    r"models--(?P<user>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/(?P<file>.+)\.safetensors"
)


class HubName(NamedTuple):
    """A file on the Hub.

    Attributes:
        repo: ``USER/NAME``.
        file: The file's path in the repository.
        revision: A branch, a tag or a commit; None for the main branch.
    """

    repo: str
    file: str
    revision: str | None


def is_hub_name(path: Path | str) -> bool:
    """Whether ``path`` names a model of the Hub, in place of a file."""
    return str(path).startswith(PREFIX)


def parse_hub_name(name: str) -> HubName:
    """The parts of ``hf:USER/NAME/FILE@REVISION``. Raises CheckpointError for a name of another form."""
    found = NAME.fullmatch(name)
    if found is None or ".." in PurePosixPath(found["file"] or "").parts:
        raise CheckpointError(f"{name} is no name of a model on the Hub, which is written {FORM}")
    return HubName(found["repo"], found["file"] or MODEL, found["revision"])


def download(name: str) -> Path:
    """The model file that ``name`` means, in the Hub's cache; it is downloaded where it is not there yet.

    Args:
        name: ``hf:USER/NAME``, with ``/FILE`` or ``@REVISION`` (a branch, a tag or a commit) or both.

    Raises :class:`~latentdiff.errors.CheckpointError` for a name, repository, revision or file that there is not, and
    where the Hub cannot be reached and the cache has no copy. Raises :class:`~latentdiff.errors.ConfigError` without
    the extra ``hub``.
    """
    return _fetch(parse_hub_name(name), name)


def fetch_beside(path: Path, file: str) -> None:
    """Download the file that a model in the Hub's cache needs beside it, from the same commit.

    Args:
        path: The model's file. Nothing is done for one that is not in the Hub's cache.
        file: The bare name of the file beside it.

    Raises CheckpointError as :func:`download` does.
    """
    if (found := CACHED.search(path.absolute().as_posix())) is None:
        return
    within = str(PurePosixPath(found["file"]).with_name(file))
    named = HubName(f"{found['user']}/{found['name']}", within, found["commit"])
    _fetch(named, f"{PREFIX}{named.repo}/{within}")


def name_in_cache(path: Path) -> str | None:
    """What a model in the Hub's cache is called: its repository's name, with the file's unless it is the usual one.

    It is None for a file elsewhere.
    """
    if (found := CACHED.search(path.absolute().as_posix())) is None:
        return None
    file = found["file"].replace("/", "-")
    return found["name"] if f"{file}.safetensors" == MODEL else f"{found['name']}-{file}"


def _fetch(named: HubName, asked: str) -> Path:
    hub = import_extra("huggingface_hub", EXTRA)
    errors: Any = import_extra("huggingface_hub.errors", EXTRA)
    try:
        return Path(hub.hf_hub_download(named.repo, named.file, revision=named.revision))
    except errors.LocalEntryNotFoundError as error:  # it is an EntryNotFoundError too
        raise CheckpointError(
            f"{asked} is not in the Hub's cache, and the Hub cannot be reached, or HF_HUB_OFFLINE is set: "
            "download it once with a network"
        ) from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{asked}: the owner must grant you access first. Ask on the page of {named.repo}, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{asked}: the Hub has no such repository, or it is private. Check the name, or `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{asked}: {named.repo} has no revision {named.revision}") from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"{asked}: {named.repo} has no {named.file}. {_what_there_is(hub, named)}") from error
    except Exception as error:
        if not is_of_the_hub(error):
            raise
        raise CheckpointError(f"{asked} could not be downloaded: {reason(error)}") from error


def _what_there_is(hub: Any, named: HubName) -> str:
    """Advice on a repository that lacks the file."""
    try:
        files = hub.HfApi().list_repo_files(named.repo, revision=named.revision)
    except Exception as error:
        if not is_of_the_hub(error):
            raise
        return f"Name a file of it: {FORM}"
    if "model_index.json" in files:
        return f'It is a pipeline of diffusers: take "diffusers:{named.repo}"'
    models = [file for file in sorted(files) if file.endswith(".safetensors")]
    return f"It has {', '.join(models[:5])}: name one, as hf:{named.repo}/{models[0]}" if models else "It has no model"


# Packages whose errors come from the Hub, or from the way there: its client, and what that sends requests by.
OF_THE_HUB = ("huggingface_hub", "hf_xet", "httpx", "httpx2", "requests")


def is_of_the_hub(error: Exception) -> bool:
    """Whether an error comes from the Hub or the way there, rather than from this machine or from a fault here."""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    # An error of the file system has a number; what the client says of an incomplete download has none.
    unnumbered = isinstance(error, OSError) and error.errno is None
    return unnumbered or isinstance(error, ConnectionError | TimeoutError) or bool(packages & set(OF_THE_HUB))


def reason(error: Exception) -> str:
    """Why a request failed, in a few words of our own: the text of an answer may repeat what was sent."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the Hub refused it (status {status}). Log in by `hf auth login`, with a token that may do it"
    if status is not None:
        return f"the Hub answered with status {status}"
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set"
    return f"the Hub cannot be reached ({type(error).__name__})"

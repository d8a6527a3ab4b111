"""Upload a folder to the Hugging Face Hub, without losing what is there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.hub import CONFIG, EXTRA, MODEL, is_of_the_hub, reason

MAIN = "main"


def check_repository(repo: str, revision: str | None, overwrite: bool) -> None:
    """Raise ConfigError for a repository that a model cannot be uploaded to, before anything is made.

    Args:
        repo: ``USER/NAME``.
        revision: The branch; None for the main one.
        overwrite: Whether files that latentdiff did not write may be replaced. The Hub keeps earlier commits in any
            case.
    """
    hub, errors = import_extra("huggingface_hub", EXTRA), import_extra("huggingface_hub.errors", EXTRA)
    try:
        import_extra("huggingface_hub.utils", EXTRA).validate_repo_id(repo)
    except errors.HFValidationError as error:
        raise ConfigError(f"--repo {repo} cannot be a repository's name: {error}") from error
    if repo.count("/") != 1:
        raise ConfigError(f"--repo {repo}: give the owner too, as USER/NAME")
    with _in_words(f"{repo} cannot be read"):
        files, branch = _files(hub, repo, revision)
        if overwrite or not files & {MODEL, "README.md", CONFIG} or _is_ours(hub, repo, branch, files):
            return
    raise ConfigError(
        f"{repo} holds files that latentdiff did not write: name another repository, or add --run.overwrite. "
        "The Hub keeps the earlier commits"
    )


def upload(folder: Path, files: Sequence[str], config: ExportStage) -> None:
    """Make the repository where there is none, upload the files of ``folder``, and say where they are.

    Raises ConfigError where the Hub refuses or cannot be reached. The folder stays, and the message says how to go on.
    Files that had already been uploaded are not sent again.
    """
    assert config.repo is not None  # the caller's condition
    hub = import_extra("huggingface_hub", EXTRA)
    api, branch = hub.HfApi(), config.revision or MAIN
    more = ["--private"] * config.private + (["--revision", branch] if branch != MAIN else [])
    command = shlex.join(["hf", "upload", config.repo, str(folder), *more])
    later = f"The folder is complete. Upload it later with `{command}`"
    with _in_words(f"{folder} was not uploaded to {config.repo}", later):
        api.create_repo(config.repo, private=config.private or None, exist_ok=True)
        if branch != MAIN:
            api.create_branch(config.repo, branch=branch, exist_ok=True)
        commit = api.upload_folder(
            repo_id=config.repo,
            folder_path=folder,
            allow_patterns=list(files),
            revision=branch,
            commit_message="Upload a model of latentdiff",
        )
    print(f'{commit.commit_url}\nload it by load("hf:{config.repo}@{commit.oid[:12]}")')


def _files(hub: Any, repo: str, revision: str | None) -> tuple[set[str], str | None]:
    """The names of the files there, and the branch that they are on; none where there is no such repository yet. A new
    branch begins with main's."""
    errors = import_extra("huggingface_hub.errors", EXTRA)
    try:
        return set(hub.HfApi().list_repo_files(repo, revision=revision)), revision
    except errors.RevisionNotFoundError:
        return (set(), revision) if revision in (None, MAIN) else _files(hub, repo, None)
    except errors.RepositoryNotFoundError:
        return set(), revision


def _is_ours(hub: Any, repo: str, revision: str | None, files: set[str]) -> bool:
    if CONFIG not in files:
        return False
    try:
        found = json.loads(Path(hub.hf_hub_download(repo, CONFIG, revision=revision)).read_text())
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("library_name") == "latentdiff"


@contextmanager
def _in_words(what: str, advice: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_of_the_hub(error):
            raise
        raise ConfigError(f"{what}: {reason(error)}." + (f"\n{advice}" if advice else "")) from error

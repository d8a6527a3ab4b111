"""An Optuna study in one file, which processes on several machines can share.

Every change is a line at the end of the file ``journal.log``. If the process of a trial has died, another process
notices it and tries the trial's settings again.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latentdiff.comparison.presence import Presence, one_at_a_time
from latentdiff.comparison.search_space import Dimension, SearchSpace
from latentdiff.data.loader import mix_seed
from latentdiff.errors import ConfigError, DivergenceError, FolderError
from latentdiff.extras import import_extra

EXTRA = "optuna"
JOURNAL, TURN = "journal.log", "turn.lock"
FILES = (JOURNAL, f"{JOURNAL}.lock", TURN)
NAME = "sweep"
# Seconds after which a lock on the journal is taken for one of a killed process. To write a line takes milliseconds.
LOCK_GRACE = 10
# How often settings are tried that end their process.
ATTEMPTS = 3

SamplerName = Literal["tpe", "gp"]
PrunerName = Literal["median", "hyperband", "none"]


class Pruned(Exception):
    """A trial is worse than others were at this point, and is ended early."""


class TakenAway(Exception):
    """Another process assumed that the trial's process was dead, and took the trial over."""


@dataclass(frozen=True)
class Trial:
    """Settings that are to be tried.

    Attributes:
        number: Of the trial in its study, from 0.
        values: What was chosen, by the names of the space.
        looks: How often it is measured, the last time at its end.
        own: Optuna's trial.
    """

    number: int
    values: Mapping[str, Any]
    looks: int
    own: Any

    def report(self, look: int, value: float) -> None:
        """Report its value at a look; looks count from 1.

        Raises :class:`Pruned` if it should end here, and :class:`TakenAway` if another process took it over.
        """
        with _quiet(), _not_taken_away():
            self.own.report(value, look)
            if look < self.looks and self.own.should_prune():
                raise Pruned

    def describe(self, **facts: Any) -> None:
        """Store more facts about it: plain values by name. Raises :class:`TakenAway`."""
        with _not_taken_away():
            self.own.set_user_attr("facts", facts)


class SharedStudy:
    """A study that this process takes part in.

    Args:
        folder: Where the journal is, or will be.
        space: What is searched.
        sampler: How settings are chosen: ``tpe`` or ``gp``.
        pruner: How a trial is ended early: ``median``, ``hyperband`` or ``none``.
        looks: Reports of a complete trial.
        seed: The settings of a trial follow from it and from the trials before.
        conditions: What all trials have alike, as plain values.
        first: What a new study tries first.

    Raises:
        ConfigError: Optuna is not installed.
        FolderError: The study in the folder has other conditions, or its journal is damaged.
    """

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        sampler: SamplerName = "tpe",
        pruner: PrunerName = "median",
        looks: int = 4,
        seed: int = 0,
        conditions: Mapping[str, Any] | None = None,
        first: Mapping[str, Any] | None = None,
    ):
        self.folder, self.space, self.sampler, self.looks, self.seed = folder, space, sampler, looks, seed
        self.optuna = import_extra("optuna", EXTRA)
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.presence = Presence(folder, folder / TURN)
        self._distributions = {dimension.name: _distribution(self.optuna, dimension) for dimension in space.dimensions}
        with one_at_a_time(folder / TURN), _quiet():
            self.storage = _storage(folder / JOURNAL)
            self.study = self.optuna.create_study(
                storage=self.storage,
                study_name=NAME,
                direction="minimize",
                load_if_exists=True,
                pruner=_pruner(self.optuna, pruner, looks),
            )
            if first and not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(dict(first), {"first": True})
            self._check_conditions({"space": space.to_dict(), "looks": looks, **(conditions or {})})

    def run(
        self,
        objective: Callable[[Trial], float],
        trials: int,
        failures: tuple[type[Exception], ...] = (ConfigError, DivergenceError),
        after: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        """Try settings until the study has ``trials`` that ended or are under way.

        Args:
            objective: Tries settings and returns how good they are; lower is better. It reports on the way.
            trials: How many, of all processes.
            failures: Exceptions of the objective that mean that the settings are bad. The study then avoids similar
                settings.
            after: Called at the end of each trial.

        Any other exception of the objective is raised again. The trial's settings will then be tried again.
        """
        with self.presence.shown():
            while (trial := self.begin(trials)) is not None:
                try:
                    value = objective(trial)
                    if not math.isfinite(value):
                        raise DivergenceError(f"the result is {value}")
                    self._end(trial, value=value)
                except Pruned:
                    self._end(trial)
                except TakenAway:
                    print(
                        f"trial {trial.number}: another process assumed that this one was dead, and tries its settings"
                    )
                except failures as error:
                    self._end(trial, why=str(error).splitlines()[0])
                except BaseException as error:
                    self._give_back(trial, is_fault=isinstance(error, Exception))
                    raise
                after(trial)

    def begin(self, trials: int) -> Trial | None:
        """The next settings to try; None where ``trials`` have ended or are under way."""
        states = self.optuna.trial.TrialState
        with one_at_a_time(self.folder / TURN), _quiet():
            self._return_lost_trials()
            so_far = self.study.get_trials(deepcopy=False)
            begun = sum(trial.state not in (states.FAIL, states.WAITING) for trial in so_far)
            if begun >= trials:
                return None
            # What is chosen depends on the trials before and on how many they are, whichever process asks, and
            # whether or not one of them was killed on the way.
            counted = sum(trial.state != states.FAIL for trial in so_far)
            self.study.sampler = _sampler(self.optuna, self.sampler, mix_seed(self.seed, counted) % 2**32)
            own = self.study.ask(self._distributions)
            own.set_user_attr("worker", self.presence.name)
        return Trial(own.number, dict(own.params), self.looks, own)

    def rows(self) -> list[dict[str, Any]]:
        """All trials that count, in their order, as plain values.

        Each has ``number``; ``state``: ``complete``, ``pruned``, ``failed`` or ``running``; ``values`` by the names of
        the space; ``settings`` by their dotted names; ``looks``: the figure by look; ``value``: the figure at its end,
        or None; ``why`` it failed; whether it ``is_first``, given and not chosen; and the ``facts`` of
        :meth:`Trial.describe`.
        """
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            state = trial.state.name
            if state in ("FAIL", "WAITING"):  # Its settings are tried again, under another number.
                continue
            why = trial.user_attrs.get("why")
            found.append(
                {
                    "number": trial.number,
                    "state": "failed" if why else state.lower(),
                    "values": dict(trial.params),
                    "settings": json.loads(json.dumps(self.space.settings(trial.params))),
                    "looks": {str(look): value for look, value in sorted(trial.intermediate_values.items())},
                    "value": trial.value if state == "COMPLETE" else None,
                    "why": why,
                    "is_first": bool(trial.user_attrs.get("first")),
                    "facts": trial.user_attrs.get("facts") or {},
                }
            )
        return found

    def importance(self) -> dict[str, float]:
        """How much each part of the space decides whether a trial is among the best: shares of 1, largest first.

        By PED-ANOVA (Watanabe et al. 2023), which needs no other package. Empty where too few trials have ended.
        """
        complete = [row for row in self.rows() if row["state"] == "complete"]
        if len(complete) < 4:
            return {}
        # Among the best there should be five at least.
        share = min(0.5, max(0.1, 5 / len(complete)))
        evaluator = self.optuna.importance.PedAnovaImportanceEvaluator
        with _quiet():
            try:
                own = evaluator(target_quantile=share)
            except TypeError:  # Optuna 4
                own = evaluator(baseline_quantile=share)
            found = self.optuna.importance.get_param_importances(self.study, evaluator=own)
        return {name: float(value) for name, value in found.items()} if sum(found.values()) > 0 else {}

    def _end(self, trial: Trial, value: float | None = None, why: str | None = None) -> None:
        """Write down how a trial ended: with a figure, or early. Settings that fail count as the worst there are."""
        state = self.optuna.trial.TrialState
        with _quiet():
            try:
                with _not_taken_away():
                    if why is not None:
                        trial.own.set_user_attr("why", why)
                    self.study.tell(trial.own, value, state=state.PRUNED if value is None else state.COMPLETE)
            except TakenAway:
                print(f"trial {trial.number}: it ended after another process had assumed that this one was dead")

    def _return_lost_trials(self) -> None:
        """Let the settings of trials with a dead process be tried again. Call it only while holding the lock."""
        for trial in self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.RUNNING,)):
            worker = trial.user_attrs.get("worker")
            if worker is None or not self.presence.lives(worker):
                self._return(trial)

    def _give_back(self, trial: Trial, is_fault: bool) -> None:
        """Return a trial of this process, which is ending."""
        with one_at_a_time(self.folder / TURN), _quiet():
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            if not frozen.state.is_finished():
                self._return(frozen, is_fault)

    def _return(self, trial: Any, is_fault: bool = True) -> None:
        """Enqueue a trial's settings again, then end it. Killed in between, the next process finds both."""
        states = self.optuna.trial.TrialState
        attempt = trial.user_attrs.get("attempt", 1) + is_fault
        if attempt > ATTEMPTS:
            place = self.storage.get_study_id_from_name(NAME), trial.number
            number = self.storage.get_trial_id_from_study_id_trial_number(*place)
            self.storage.set_trial_user_attr(number, "why", f"its process failed at each of {ATTEMPTS} attempts")
            self.study.tell(trial.number, state=states.PRUNED)
            return
        again = [other.user_attrs.get("again") for other in self.study.get_trials(deepcopy=False)]
        if trial.params and trial.number not in again:
            self.study.enqueue_trial(
                dict(trial.params), {"again": trial.number, "attempt": attempt, "first": trial.user_attrs.get("first")}
            )
        self.study.tell(trial.number, state=states.FAIL)

    def _check_conditions(self, wanted: Mapping[str, Any]) -> None:
        """Record what all trials have in common, or compare it with the record of the study."""
        wanted = json.loads(json.dumps(wanted))
        before = self.study.user_attrs.get("conditions")
        if before is None:
            self.study.set_user_attr("conditions", wanted)
            return
        changed = [
            key
            for key in (*before, *(key for key in wanted if key not in before))
            if before.get(key) != wanted.get(key)
        ]
        if changed:
            differences = "; ".join(
                f"{key} was {_short(before.get(key))}, is {_short(wanted.get(key))}" for key in changed
            )
            raise FolderError(
                f"the search in {self.folder} was begun with other settings: {differences}. Go on with its own "
                f"(--config {self.folder / 'config.yaml'}), or begin another with --name"
            )


class _MendingLock:
    """The lock on a journal. Its holder first removes an incomplete last line, which a killed writer may have left."""

    def __init__(self, journal: Path):
        module = import_extra("optuna.storages.journal", EXTRA)
        self._path = journal
        self._lock = module.JournalFileOpenLock(str(journal), grace_period=LOCK_GRACE)

    def acquire(self) -> bool:
        self._lock.acquire()
        _cut_half_line(self._path)
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_half_line(path: Path) -> None:
    """Cut a file after its last whole line."""
    if not path.is_file():
        return
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _storage(path: Path) -> Any:
    """Optuna's storage in a journal. Raises FolderError for a file that is none."""
    module = import_extra("optuna.storages.journal", EXTRA)
    # Absolute: the lock is found again wherever this process goes.
    path = path.absolute()
    lock = _MendingLock(path)
    lock.acquire()
    lock.release()
    try:
        return module.JournalStorage(module.JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        raise FolderError(
            f"{path} is damaged: {str(error).splitlines()[0] or 'it is not a journal'}. Restore a copy of it, or "
            "move the folder away and search anew"
        ) from error


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if dimension.choices is not None:
        return kinds.CategoricalDistribution(list(dimension.choices))
    if dimension.whole:
        return kinds.IntDistribution(dimension.low, dimension.high, dimension.log, dimension.step or 1)
    return kinds.FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def _sampler(optuna: Any, name: SamplerName, seed: int) -> Any:
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    # The liar: a process avoids what another one is trying just now.
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(optuna: Any, name: PrunerName, looks: int) -> Any:
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=looks, reduction_factor=2)
    # Not in the first third, where a high learning rate looks worse than it is.
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1 + looks // 3)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's warnings about what may change in a later version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _not_taken_away() -> Iterator[None]:
    """Turn Optuna's error for a trial that another process has ended into :class:`TakenAway`."""
    finished = import_extra("optuna.exceptions", EXTRA).UpdateFinishedTrialError
    try:
        yield
    except finished as error:
        raise TakenAway from error
    except ValueError as error:
        if "Cannot tell a" in str(error):
            raise TakenAway from error
        raise


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."

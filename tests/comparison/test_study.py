"""The study that processes share, on an objective of closed form: what it chooses, and what survives a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from latentdiff.comparison import presence, study
from latentdiff.comparison.search_space import Dimension, SearchSpace
from latentdiff.comparison.study import SharedStudy
from latentdiff.errors import ConfigError, DivergenceError, FolderError

pytest.importorskip("optuna", reason="the extra optuna is not installed")
BOWL = SearchSpace((Dimension("x", -10.0, 10.0), Dimension("y", -10.0, 10.0)))


def bowl(trial):
    return (trial.values["x"] - 3) ** 2 + (trial.values["y"] + 4) ** 2


def shared(folder="study", space=BOWL, **more):
    return SharedStudy(Path(folder), space, **{"pruner": "none", **more})


def chosen(found):
    return [row["values"] for row in found.rows()]


def forked(work):
    """A process that does some work."""
    if child := os.fork():
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_parzen_estimator_finds_a_bowls_bottom_better_than_chance():
    found = shared()
    found.run(bowl, 40)
    best = min(row["value"] for row in found.rows())
    numbers = random.Random(0)
    by_chance = sorted(
        min((numbers.uniform(-10, 10) - 3) ** 2 + (numbers.uniform(-10, 10) + 4) ** 2 for _ in range(40))
        for _ in range(200)
    )
    # Better than nine of ten draws of as many points.
    assert best < by_chance[20]


@pytest.mark.slow
def test_the_gaussian_process_finds_it_closely():
    found = shared(sampler="gp")
    found.run(bowl, 25)
    assert min(row["value"] for row in found.rows()) < 0.01


def test_a_study_that_was_stopped_goes_on_as_one_that_was_not():
    whole = shared("whole")
    whole.run(bowl, 14)
    part = shared("part")
    part.run(bowl, 6)
    assert len(part.rows()) == 6

    def interrupted(trial):
        if len(shared("part").rows()) == 9:
            raise KeyboardInterrupt
        return bowl(trial)

    with pytest.raises(KeyboardInterrupt):
        shared("part").run(interrupted, 14)
    shared("part").run(bowl, 14)
    assert chosen(shared("part")) == chosen(whole)
    # Nothing is left to do.
    shared("part").run(lambda trial: pytest.fail(f"{trial}"), 14)


def test_a_trial_of_a_killed_process_is_tried_again_and_no_other(monkeypatch):
    def hang(trial):
        if trial.number == 4:
            time.sleep(100)
        return bowl(trial)

    found = shared()
    child = forked(lambda: shared().run(hang, 8))
    wait_until(lambda: len(found.rows()) == 5)
    # While it lives, its trial is its own: this process tries others, up to the number that was asked for.
    found.run(bowl, 6)
    assert [row["state"] for row in found.rows()] == ["complete"] * 4 + ["running", "complete"]
    lost = chosen(found)[4]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # What it was writing when it was killed is half a line.
    with open("study/journal.log", "a") as journal:
        journal.write('{"op_code":5,"wor')
    again = shared()
    again.run(bowl, 8)
    rows = again.rows()
    assert [row["state"] for row in rows] == ["complete"] * 8
    assert sum(row["values"] == lost for row in rows) == 1
    assert not os.listdir("study/workers")


@pytest.mark.slow
def test_a_lock_that_a_killed_process_left_is_broken(monkeypatch):
    shared().run(bowl, 2)
    Path("study/journal.log.lock").touch()
    monkeypatch.setattr(study, "LOCK_GRACE", 3)
    shared().run(bowl, 3)
    assert len(shared().rows()) == 3
    assert not Path("study/journal.log.lock").exists()


def test_two_processes_share_a_study_and_no_trial_is_lost_or_made_twice():
    shared()

    def work(name):
        def slow(trial):
            with open(name, "a") as file:
                print(trial.number, file=file)
            time.sleep(0.02)
            return bowl(trial)

        return lambda: shared().run(slow, 16)

    names = ("one", "two")
    children = [forked(work(name)) for name in names]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    rows = shared().rows()
    assert [row["state"] for row in rows] == ["complete"] * 16
    # On a busy machine one of them may have made all.
    made = [[int(line) for line in Path(name).read_text().split()] if Path(name).exists() else [] for name in names]
    assert sorted([*made[0], *made[1]]) == list(range(16))
    assert len({json.dumps(row["values"]) for row in rows}) == 16


def test_settings_that_fail_are_kept_with_their_reason_and_count():
    def fails(trial):
        if trial.values["x"] > 0:
            raise ConfigError("48 channels cannot be divided\nmore")
        return float("nan") if trial.values["y"] > 0 else bowl(trial)

    found = shared()
    found.run(fails, 12, failures=(ConfigError, DivergenceError))
    rows = found.rows()
    assert len(rows) == 12
    for row in rows:
        if row["values"]["x"] > 0:
            assert (row["state"], row["why"]) == ("failed", "48 channels cannot be divided")
        elif row["values"]["y"] > 0:
            assert (row["state"], row["why"]) == ("failed", "the result is nan")
        else:
            assert (row["state"], row["value"]) == ("complete", bowl(found_trial(row)))


def found_trial(row):
    return type("Trial", (), {"values": row["values"]})


def test_settings_that_end_their_process_each_time_are_given_up():
    def faulty(trial):
        raise RuntimeError("a fault")

    for _ in range(study.ATTEMPTS):
        with pytest.raises(RuntimeError):
            shared().run(faulty, 1)
    row = shared().rows()[0]
    assert (row["state"], row["why"]) == ("failed", "its process failed at each of 3 attempts")
    shared().run(bowl, 2)
    assert [row["state"] for row in shared().rows()] == ["failed", "complete"]


def test_a_median_pruner_ends_the_worse_and_not_at_the_last_look():
    def looked_at(trial):
        for look in range(1, 5):
            trial.report(look, bowl(trial) + 100 / look)
        trial.describe(images_seen=8)
        return bowl(trial)

    found = shared(pruner="median", looks=4)
    found.run(looked_at, 20)
    rows = found.rows()
    ended = {row["state"] for row in rows}
    assert ended == {"complete", "pruned"}
    for row in rows:
        assert len(row["looks"]) == 4 if row["state"] == "complete" else 2 <= len(row["looks"]) < 4
        assert row["facts"] == ({"images_seen": 8} if row["state"] == "complete" else {})
    worst = max(row["value"] for row in rows if row["state"] == "complete")
    pruned = [row["looks"]["2"] - 50 for row in rows if row["state"] == "pruned"]
    assert sorted(pruned)[len(pruned) // 2] > sorted(row["value"] for row in rows if row["value"] is not None)[0]
    assert worst > 0


@pytest.mark.slow
def test_what_decides_is_important():
    space = SearchSpace((Dimension("x", -10.0, 10.0), Dimension("y", -10.0, 10.0)))
    found = shared(space=space)
    found.run(lambda trial: (trial.values["x"] - 3) ** 2 + 0.001 * trial.values["y"], 30)
    shares = found.importance()
    assert list(shares) == ["x", "y"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["x"] > 0.7
    assert shared("other").importance() == {}


def test_what_is_given_is_tried_first_and_once():
    for trials in (1, 3):
        shared(first={"x": 1.5, "y": -2}).run(bowl, trials)
    rows = shared(first={"x": 1.5, "y": -2}).rows()
    assert [row["is_first"] for row in rows] == [True, False, False]
    assert rows[0]["values"] == {"x": 1.5, "y": -2}


def test_a_search_of_other_conditions_is_refused_by_name():
    shared(conditions={"seconds": 60})
    with pytest.raises(FolderError, match=r"seconds was 60, is 30\. Go on with its own \(--config study/config.yaml\)"):
        shared(conditions={"seconds": 30})
    with pytest.raises(FolderError, match="looks was 4, is 5"):
        shared(conditions={"seconds": 60}, looks=5)
    shared(conditions={"seconds": 60}, sampler="gp", pruner="hyperband", seed=3)


def test_a_journal_that_is_none_is_refused():
    shared().run(bowl, 2)
    lines = Path("study/journal.log").read_text().splitlines()
    for damage in ("not json", '{"op_code": 99}', "[]"):
        Path("study/journal.log").write_text("\n".join([*lines[:3], damage, *lines[3:]]) + "\n")
        with pytest.raises(FolderError, match=r"journal.log is damaged"):
            shared()


def test_a_process_of_another_machine_is_known_by_its_touches(monkeypatch):
    here = presence.Presence(Path("shared"), Path("shared/turn"))
    other = Path("shared/workers/other-1")
    with here.shown():
        other.write_text(json.dumps({"machine": "another"}))
        assert here.lives("other-1")
        now = time.time()
        os.utime(other, (now, now - presence.DEAD_AFTER - 60))
        assert not here.lives("other-1")
        assert not other.exists()
        # One of this machine has its lock, or is gone.
        other.write_text(json.dumps({"machine": presence._machine()}))
        assert not here.lives("other-1")
        assert not here.lives("never-there")
        assert here.lives(here.name)
        # A file system without locks: again the touches tell.
        monkeypatch.setattr(presence, "fcntl", None)
        other.write_text(json.dumps({"machine": presence._machine()}))
        assert here.lives("other-1")
        os.utime(other, (now, now - presence.DEAD_AFTER - 60))
        assert not here.lives("other-1")
    assert not os.listdir("shared/workers")

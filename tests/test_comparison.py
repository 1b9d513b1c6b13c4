"""Everybody on the same folds, each in a process of its own; figures that a later run goes on from."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import quick, write_frames
from pictures import film_folder
from textures import Lazy, textures

from framecnn import DataError, FrameFolder, ShapeError
from framecnn.comparison import CONTESTANTS, Comparison, child, contestants, folds
from framecnn.comparison.models import KMeansSystem, PlainHead, Trial
from framecnn.training.history import History

TOO_LARGE = 1e300  # a learning rate that breaks every network


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr(contestants, "EPOCHS", 2)
    monkeypatch.setattr(contestants, "TRIAL_EPOCHS", 1)
    monkeypatch.setattr(contestants, "LEARNING_RATES", (TOO_LARGE, 0.001))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("comparison") / "films")


@pytest.fixture
def folder(films):
    return FrameFolder(films, size=(24, 32))


def told(name, test, right):
    """An outcome with so many right answers, the first ones."""
    predictions = test.targets.copy()
    predictions[right:] = (predictions[right:] + 1) % 3
    return {
        "predictions": predictions.tolist(),
        "confidences": [0.75] * len(test),
        "shown": [0.5, 0.25, 0.25],
        "train_seconds": 2.0,
        "frames_per_second": 100.0,
        "peak_megabytes": 300.0,
        "model_bytes": 5000,
        "device": "CPU",
        "chosen": {"seconds": 1.5} if CONTESTANTS[name].at_network_size else {},
    }


@pytest.fixture
def scripted(monkeypatch):
    """Let no process run: every contestant says what a script says. Gives the jobs that were asked for."""
    jobs = []

    def answer(job):
        jobs.append(job)
        test = next(test for _, test in answer.parts if test.paths == job["test"]["paths"])
        if job["contestant"] == "keras_network" and answer.without_keras:
            return {"missing": "no Keras"}
        return told(job["contestant"], test, len(test) - 1 - list(CONTESTANTS).index(job["contestant"]))

    answer.without_keras = False
    monkeypatch.setattr(folds, "run_apart", answer)
    return jobs, answer


def compared(folder, scripted, **settings):
    comparison = Comparison(folder, folds=3, network_size=(16, 16), **settings)
    scripted[1].parts = comparison.parts
    while comparison.n_left:
        comparison.next_fold(lambda *_: None)
    return comparison


def test_everybody_gets_the_same_frames_of_every_fold_at_the_size_of_its_kind(folder, scripted):
    compared(folder, scripted, seed=3)
    jobs = scripted[0]
    assert len(jobs) == 3 * len(CONTESTANTS)
    for start in range(0, len(jobs), len(CONTESTANTS)):
        own = jobs[start : start + len(CONTESTANTS)]
        assert [job["contestant"] for job in own] == list(CONTESTANTS)
        for name in ("targets", "groups", "shown", "seed"):
            assert all(job[name] == own[0][name] for job in own)
        for part in ("train", "test"):
            assert all(job[part]["paths"] == own[0][part]["paths"] for job in own)
            assert [job[part]["size"] for job in own] == [[24, 32], [24, 32], [16, 16], [16, 16]]
        assert not set(own[0]["groups"]) & {
            folder.groups[folder.samples.index((path, target))]
            for path, target in folder.samples
            if path in own[0]["test"]["paths"]
        }
    tested = [path for job in jobs[:: len(CONTESTANTS)] for path in job["test"]["paths"]]
    assert sorted(tested) == [path for path, _ in folder.samples]
    json.dumps(jobs)


def test_figures_are_those_of_the_answers(folder, scripted):
    comparison = compared(folder, scripted)
    figures = comparison.figures()
    assert list(figures) == list(CONTESTANTS)
    for place, own in enumerate(figures.values()):
        sizes = [len(test) for _, test in comparison.parts]
        assert own["accuracies"] == pytest.approx([(size - 1 - place) / size for size in sizes])
        assert own["mean"] == pytest.approx(np.mean(own["accuracies"]))
        assert own["interval"][0] < own["mean"] < own["interval"][1]
        assert np.sum(own["confusion"]) == len(folder)
        assert np.trace(own["confusion"]) == len(folder) - 3 * (1 + place)
        assert (own["train_seconds"], own["model_bytes"], own["device"]) == (2, 5000, "CPU")
        assert own["kept_run_seconds"] == (1.5 if place > 1 else None)
    assert comparison.paths[0].startswith(str(folder.root))


def test_who_is_missing_is_named_and_has_no_figures(folder, scripted):
    scripted[1].without_keras = True
    comparison = compared(folder, scripted)
    assert comparison.missing == {"keras_network": "no Keras"}
    assert list(comparison.figures()) == ["kmeans_system", "plain_head", "network"]
    assert comparison.to_dict()["missing"] == {"keras_network": "no Keras"}


def test_warnings_name_the_fold_that_lacks_a_class(tmp_path):
    folder = FrameFolder(film_folder(tmp_path, {"a": 9, "b": 9, "c": 2}), size=(24, 32))
    warnings = Comparison(folder, folds=4, network_size=(16, 16)).warnings
    assert sum(re.fullmatch("fold [1-4]: no test evidence for class 'c'", text) is not None for text in warnings) == 2
    assert [text for text in warnings if not text.startswith("fold")] == folder.warnings


def test_a_later_run_goes_on_from_the_folds_that_are_done(folder, scripted):
    whole = compared(folder, scripted).to_dict()
    scripted[0].clear()
    begun = json.loads(json.dumps(whole))
    begun["folds"] = begun["folds"][:2]
    comparison = Comparison(folder, folds=3, network_size=(16, 16))
    comparison.resume(begun)
    assert comparison.n_left == 1
    comparison.next_fold(lambda *_: None)
    assert comparison.to_dict() == whole
    assert len(scripted[0]) == len(CONTESTANTS)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"folds": 2}, "folds"),
        ({"network_size": (32, 32)}, "network_size"),
        ({"seed": 1}, "seed"),
    ],
)
def test_figures_of_another_comparison_are_refused(folder, settings, named):
    before = Comparison(folder, **{"folds": 3, "network_size": (16, 16), **settings}).to_dict()
    with pytest.raises(DataError, match=f"got other {named}; name another file"):
        Comparison(folder, folds=3, network_size=(16, 16)).resume(before)


def test_other_frames_are_another_comparison(folder):
    before = Comparison(folder, folds=3, network_size=(16, 16)).to_dict()
    fewer = folder.without([folder.samples[0][0]])
    with pytest.raises(DataError, match="got other frames, digest; name another file"):
        Comparison(fewer, folds=3, network_size=(16, 16)).resume(before)
    with pytest.raises(DataError, match="got other folder, frames, "):
        Comparison(folder, folds=3, network_size=(16, 16)).resume(["no figures"])


def test_frames_too_small_for_the_networks_are_refused_before_any_work(folder):
    with pytest.raises(ShapeError, match="PoolingLayer"):
        Comparison(folder, network_size=(8, 8))


def job(folder, contestant, size=(24, 32)):
    train, test = folder.folds(2)[0]
    return {
        "contestant": contestant,
        "n_classes": 3,
        "seed": 0,
        "train": train.frames.config(size),
        "test": test.frames.config(size),
        "targets": train.targets.tolist(),
        "groups": train.groups.tolist(),
        "shown": 1,
    }


def check_outcome(outcome, n_test):
    assert len(outcome["predictions"]) == len(outcome["confidences"]) == n_test
    assert set(outcome["predictions"]) <= {0, 1, 2}
    assert sum(outcome["shown"]) == pytest.approx(1, abs=1e-4)
    assert outcome["shown"][outcome["predictions"][1]] == max(outcome["shown"])
    assert outcome["confidences"][1] == max(outcome["shown"])
    assert outcome["train_seconds"] > 0
    assert outcome["frames_per_second"] > 0
    assert 50 < outcome["peak_megabytes"] < 10_000
    assert outcome["model_bytes"] > 1000
    json.dumps(outcome, allow_nan=False)


@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_a_contestant_learns_answers_and_is_measured(folder, contestant, without_tracing):
    outcome = child.run(job(folder, contestant, (16, 16) if CONTESTANTS[contestant].at_network_size else (24, 32)))
    check_outcome(outcome, len(folder.folds(2)[0][1]))
    assert outcome["device"] == "CPU" or outcome["device"].startswith("GPU")
    if CONTESTANTS[contestant].at_network_size:
        broken, trial, *runs = tried = outcome["chosen"]["tried"]
        assert [run["learning_rate"] for run in tried] == [TOO_LARGE, 0.001, 0.001, 0.001]
        assert [run["augmented"] for run in tried] == [False, False, False, True]
        assert broken["val_loss"] is None
        assert (trial["epochs"], runs[0]["epochs"], runs[1]["epochs"]) == (1, 2, 2)
        best = max(runs, key=lambda run: (run["val_accuracy"], -run["val_loss"]))
        assert outcome["chosen"] == {**outcome["chosen"], **best, "seconds": outcome["chosen"]["seconds"]}
        assert 0 < outcome["chosen"]["validation_frames"] < len(folder.folds(2)[0][0])


def test_all_training_frames_teach_the_network_at_last_while_its_rate_falls_to_zero(folder, monkeypatch):
    trained, train = [], contestants.Network._train

    def watched(self, model, part, rate, settings):
        trained.append((len(part[1]), rate, settings["epochs"]))
        return train(self, model, part, rate, settings)

    monkeypatch.setattr(contestants.Network, "_train", watched)
    asked = job(folder, "network", (16, 16))
    child.run(asked)
    n_frames, rate, epochs = trained[-1]
    assert n_frames == len(asked["targets"]) > trained[0][0]
    assert epochs == contestants.EPOCHS
    updates = epochs * math.ceil(n_frames / contestants.BATCH)
    assert (rate(0), rate(updates)) == (0.001, 0)
    assert rate(updates - 1) > 0


def test_a_process_of_its_own_gives_an_outcome_without_a_word(folder, capfd):
    check_outcome(child.run_apart(job(folder, "plain_head")), len(folder.folds(2)[0][1]))
    assert capfd.readouterr() == ("", "")


def test_frames_that_vanish_stop_the_comparison_with_their_names(folder, tmp_path):
    asked = job(folder, "plain_head")
    asked["train"]["root"] = str(tmp_path)
    with pytest.raises(DataError, match="compare: LazyFrames: frames vanished since the folder was scanned"):
        child.run_apart(asked)


def test_a_process_that_dies_is_an_error_with_its_exit_code(monkeypatch, folder):
    monkeypatch.setattr(child.sys, "executable", "false")
    with pytest.raises(DataError, match="of the plain k-means head, but its process ended with exit code 1"):
        child.run_apart(job(folder, "plain_head"))


def start_child(before, asked):
    """Start the process of a contestant, after some code, as `run_apart` does; its input stays open."""
    script = f"{before}; from framecnn.comparison.child import main; main()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True)
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    return process


def test_without_keras_its_network_is_missing_with_the_install_command(folder):
    with start_child("import sys; sys.modules['keras'] = None", job(folder, "keras_network", (16, 16))) as process:
        outcome = json.loads(process.stdout.read().splitlines()[-1])
    assert "pip install 'framecnn[keras]'" in outcome["missing"]


WAITING = (
    "import time; from framecnn.comparison import child; child.run = lambda job: print('works', flush=True) "
    "or time.sleep(60)"
)


def test_a_child_ends_when_its_parent_is_gone(folder):
    with start_child(WAITING, job(folder, "plain_head")) as process:
        assert process.stdout.readline() == "works\n"
        process.stdin.close()  # as the system does with the pipes of a process that is killed
        assert process.wait(20) == 1
        assert process.stderr.read() == ""


def test_a_full_disk_under_a_contestant_is_one_line(folder):
    before = (
        "from framecnn.comparison import child; import errno, os\n"
        "def run(job): raise OSError(errno.ENOSPC, 'No space left on device', 'model')\n"
        "child.run = run"
    )
    with start_child(before + "\npass", job(folder, "plain_head")) as process:
        assert json.loads(process.stdout.read())["error"] == "[Errno 28] No space left on device: 'model'"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGKILL", -9)])
def test_nothing_that_a_comparison_started_survives_it(tmp_path, name, code):
    script = (
        "import sys\n"
        "from framecnn.cli import console\n"
        "from framecnn.comparison import child\n"
        "child.sys.executable = sys.argv[1]\n"
        "sys.exit(console.run(lambda: child.run_apart({'contestant': 'plain_head'})))"
    )
    waiting = tmp_path / "python"
    waiting.write_text(
        f"#!{sys.executable}\nimport os, time\nfrom framecnn.comparison import child\n"
        f"def run(job):\n    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
        "child.run = run\nchild.main()\n"
    )
    waiting.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", script, waiting], stderr=subprocess.PIPE)
    pid = wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=20)[0] is None
    assert process.returncode == code
    wait_for(lambda: not is_alive(int(pid)))


def wait_for(condition):
    """Wait until a condition holds; give its value."""
    end = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_training_that_diverged_is_never_chosen():
    good = Trial(0.001, None, History(loss=[1.0], val_loss=[0.9], val_accuracy=[0.0], seconds=[1.0]))
    diverged = Trial(0.003, None, History())
    assert diverged.val_loss == math.inf > good.val_loss
    assert diverged.merit < good.merit
    assert diverged.to_dict()["val_loss"] is None


@pytest.mark.parametrize("kind", [KMeansSystem, PlainHead])
def test_a_class_without_training_frames_gets_no_probability(kind):
    frames, labels, groups = textures(n_groups=3)
    targets = np.array([{"across": 0, "blobs": 1, "down": 3}[label] for label in labels])
    contestant = kind(4, 0)
    contestant.fit(Lazy(frames), targets, groups)
    probabilities = contestant.predict_proba(frames)
    assert probabilities.shape == (len(frames), 4)
    assert not probabilities[:, 2].any()
    assert probabilities.sum(axis=1) == pytest.approx(1)

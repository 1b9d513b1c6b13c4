"""Training: it learns, resumes from checkpoints, and is reproducible: only settings change a bit of the result."""

import hashlib
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import training_run
from textures import Lazy
from training_run import TRAIN, VALIDATION, network, run

from framecnn import DenseLayer, InputLayer, Sequential, ShapeError, num_threads, save
from framecnn.errors import SettingError
from framecnn.testing.draws import same_bits
from framecnn.training.loop import fit, train_step
from framecnn.training.losses import mean_squared_error, sigmoid_cross_entropy, softmax_cross_entropy
from framecnn.training.optimizers import SGD, Adam

KILLS = 3


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def without_seconds(history):
    return {name: values for name, values in asdict(history).items() if name != "seconds"}


def same_weights(a, b):
    return all(same_bits(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Model, history and checkpoint of a run without interruption."""
    path = tmp_path_factory.mktemp("whole") / "run.safetensors"
    model, history = run(checkpoint=path)
    return model, history, path


def test_frames_of_three_textures_are_learned():
    model, history = run(augment=None, epochs=12)
    best = history.best_epoch - 1
    assert history.val_accuracy[best] > 0.8
    assert history.accuracy[-1] > history.accuracy[0]
    assert np.mean(model.predict(VALIDATION[0]).argmax(axis=1) == VALIDATION[1]) == history.val_accuracy[best]


def test_history_holds_one_value_an_epoch(uninterrupted):
    _, history, _ = uninterrupted
    assert all(len(values) == 6 for values in asdict(history).values())
    assert history.learning_rate[0] == 0
    assert history.learning_rate[1] == 0.01
    assert history.val_loss[history.best_epoch - 1] == min(history.val_loss)
    assert all(seconds > 0 for seconds in history.seconds)
    assert all(0 <= accuracy <= 1 for accuracy in history.accuracy)


def test_sequential_fit_equals_fit():
    ours, theirs = network(), network()
    settings = {"epochs": 2, "progress": None}
    assert without_seconds(ours.fit(*TRAIN, **settings)) == without_seconds(fit(theirs, *TRAIN, **settings))
    assert same_weights(ours, theirs)
    assert not same_weights(ours, network())


def test_a_run_that_is_stopped_after_an_epoch_and_resumed_gives_the_same_file(uninterrupted, tmp_path):
    model, history, whole = uninterrupted
    path = tmp_path / "run.safetensors"
    for epochs in (1, 2, 5, 6, 6):
        resumed, again = run(checkpoint=path, resume=True, epochs=epochs, seed=np.int64(3), batch_size=np.int64(8))
        assert len(again) == epochs
    assert same_weights(resumed, model)
    assert without_seconds(again) == without_seconds(history)
    assert again.seconds == [None] * 6
    assert digest(path) == digest(whole)


def test_a_run_that_is_killed_at_any_moment_and_resumed_gives_the_same_file(uninterrupted, tmp_path):
    path = tmp_path / "run.safetensors"
    rng = np.random.default_rng()
    for _ in range(KILLS):
        process = start_run(path)
        for _ in range(rng.integers(1, 12)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        if path.exists():
            run(checkpoint=path, resume=True, epochs=1)  # raises if the checkpoint is damaged
    assert start_run(path).wait() == 0
    assert digest(path) == digest(uninterrupted[2])


def start_run(path):
    """Return a process that trains, resumes from a checkpoint if there is one, and prints each step."""
    return subprocess.Popen([sys.executable, training_run.__file__, path], stdout=subprocess.PIPE, text=True)


def test_one_and_more_threads_give_the_same_file(uninterrupted, tmp_path):
    for n in (1, 2, 3):
        with num_threads(n):
            model, _ = run(checkpoint=tmp_path / f"{n}.safetensors")
        assert digest(tmp_path / f"{n}.safetensors") == digest(uninterrupted[2])
        save(model, tmp_path / f"model {n}.safetensors")
    assert len({digest(path) for path in tmp_path.glob("model*")}) == 1


def test_lazily_loaded_frames_give_the_same_bits(uninterrupted):
    lazy = Lazy(TRAIN[0])
    model, _ = run(train=(lazy, TRAIN[1]), validation_data=(Lazy(VALIDATION[0]), VALIDATION[1]))
    assert same_weights(model, uninterrupted[0])
    assert lazy.largest_read == 8


def test_another_seed_gives_another_model(uninterrupted):
    assert not same_weights(run(seed=4)[0], uninterrupted[0])


def test_a_checkpoint_contains_neither_time_nor_place(uninterrupted):
    content = uninterrupted[2].read_bytes()
    for word in (b"second", b"home", b"tmp", b"thread"):
        assert word not in content[: int.from_bytes(content[:8], "little")]


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path):
    path = tmp_path / "run.safetensors"
    settings = {"optimizer": SGD(0.05, momentum=0.9), "patience": 3, "epochs": 60, "checkpoint": path}
    model, history = run(**settings)
    assert len(history) == history.best_epoch + 3 < 60
    value, _ = softmax_cross_entropy(model.predict(VALIDATION[0]), VALIDATION[1])
    assert value == pytest.approx(min(history.val_loss), rel=1e-6)
    before = digest(path)
    again, same = run(**settings | {"optimizer": SGD(0.05, momentum=0.9), "resume": True})
    assert without_seconds(same) == without_seconds(history)
    assert same_weights(again, model)
    assert digest(path) == before


def test_without_validation_the_last_epoch_is_the_best():
    model, history = run(validation_data=None, epochs=2)
    assert history.best_epoch == 2
    assert history.val_loss == history.val_accuracy == [None, None]
    assert not same_weights(model, network())


@pytest.mark.parametrize("validates", [True, False], ids=["validation", "no validation"])
def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_weights(tmp_path, validates):
    path = tmp_path / "run.safetensors"
    own = {} if validates else {"validation_data": None}
    good, _ = run(optimizer=SGD(0.01), epochs=2, checkpoint=path, **own)
    before = digest(path)

    def broken(logits, labels, calls=[]):  # noqa: B006
        calls.append(1)
        value, gradient = softmax_cross_entropy(logits, labels)
        return (np.nan if len(calls) == 3 else value), gradient

    model = network()
    with pytest.raises(FloatingPointError, match="fit: expected a finite loss, got nan in epoch 3, step 3; lower the"):
        run(model, optimizer=SGD(0.01), epochs=4, checkpoint=path, resume=True, loss=broken, **own)
    assert digest(path) == before
    assert same_weights(model, good)


def test_a_learning_rate_that_is_far_too_large_is_an_error():
    model = network()
    with pytest.raises(
        FloatingPointError, match=r"fit: expected .* finite .*, got .* in epoch \d+.*; lower the learning"
    ):
        run(model, optimizer=SGD(1e30), epochs=20)
    assert all(np.isfinite(value).all() for value in model.state_dict().values())


def test_a_validation_loss_or_a_weight_that_is_not_finite_is_an_error():
    infinite = np.full(VALIDATION[0].shape, np.inf)
    with pytest.raises(FloatingPointError, match="expected a finite validation loss, got nan in epoch 1;"):
        run(validation_data=(infinite, VALIDATION[1]))
    model = Sequential([InputLayer((1,)), DenseLayer(1, use_bias=False)]).build()
    with pytest.raises(FloatingPointError, match="finite weights, got NaN or infinity in dense_1/kernel in epoch 1"):
        fit(model, [[1e30]], [[1e30]], loss=mean_squared_error, optimizer=SGD(1e30), epochs=1, progress=None)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [(sigmoid_cross_entropy, np.eye(3)[TRAIN[1]]), (mean_squared_error, np.eye(3)[TRAIN[1]])],
)
def test_training_on_targets_that_are_not_labels_has_no_accuracy(loss, targets):
    _, history = run(train=(TRAIN[0], targets), loss=loss, validation_data=None, epochs=4, optimizer=Adam(0.01))
    assert history.accuracy == [None] * 4
    assert history.loss[-1] < history.loss[0]


def test_a_loss_may_have_settings():
    loss = partial(softmax_cross_entropy, class_weights=[1, 2, 3], label_smoothing=0.1)
    assert run(loss=loss, epochs=1)[1].loss != run(epochs=1)[1].loss


def test_progress_is_called_for_each_step_and_epoch(capsys):
    reports = []
    _, history = run(epochs=2, progress=reports.append)
    assert [p.frames for p in reports] == 2 * [8, 16, 24, 32, 36, 36]
    assert [p.is_over for p in reports] == 2 * [*5 * [False], True]
    assert [p.epoch for p in reports] == 6 * [1] + 6 * [2]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [p.figures[name] for p in reports if p.is_over] == getattr(history, name)
    assert set(reports[0].figures) == {"loss", "accuracy"}
    assert all(p.frames_per_second > 0 and p.epochs == 2 for p in reports)
    assert reports[-1].seconds_left == 0 < reports[-2].seconds_left + reports[0].seconds_left
    assert capsys.readouterr().out == ""


def test_one_line_an_epoch_is_printed_by_default(capsys):
    fit(network(), *TRAIN, epochs=2, validation_data=VALIDATION)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(word in lines[0] for word in ("loss ", "accuracy ", "val_loss ", "val_accuracy ", " frames/s", " left"))


def test_a_step_updates_moving_averages_too():
    model, optimizer = network(), Adam()
    before = model.state_dict()
    value = train_step(model, *TRAIN, softmax_cross_entropy, optimizer)
    after = model.state_dict()
    assert value > 0
    assert all((after[name] != before[name]).any() for name in before)
    assert optimizer.iterations == 1
    assert set(optimizer.moments["momentum"]) == {name for name in before if "moving" not in name}


def test_a_step_whose_loss_is_not_finite_changes_nothing():
    model, optimizer = network(), Adam()
    assert np.isnan(train_step(model, TRAIN[0] * np.nan, TRAIN[1], softmax_cross_entropy, optimizer))
    assert same_weights(model, network())
    assert optimizer.iterations == 0


def test_in_float64_weights_and_moments_are_float64(tmp_path):
    path = tmp_path / "run.safetensors"
    model, _ = run(network(np.float64), epochs=1, checkpoint=path)
    resumed, _ = run(network(np.float64), epochs=1, checkpoint=path, resume=True)
    assert same_weights(model, resumed)
    assert all(value.dtype == np.float64 for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, SettingError, "expected epochs as a positive integer, got 0"),
        ({"batch_size": 1.5}, SettingError, "expected batch_size as a positive integer, got 1.5"),
        ({"patience": 0}, SettingError, "expected patience as a positive integer, got 0"),
        (
            {"patience": 2, "validation_data": None},
            SettingError,
            "expected validation_data with patience, got",
        ),
        ({"seed": -1}, SettingError, "expected seed as an integer of at least 0, got -1"),
        ({"resume": True}, SettingError, "expected checkpoint=FILE to resume from, got None"),
        ({"loss": "mse"}, SettingError, "expected loss as a function such as losses.mean_squared_error, got 'mse'"),
        ({"optimizer": "adam"}, SettingError, r"expected optimizer as an Optimizer such as Adam\(\), got 'adam'"),
        ({"augment": True}, SettingError, "expected augment as an Augmentation or None, got True"),
        ({"train": (TRAIN[0][:, :6], TRAIN[1])}, ShapeError, r"expected x of shape \(n, 12, 16, 3\), got"),
        ({"train": (TRAIN[0], TRAIN[1][:5])}, ShapeError, "expected at least one frame and as many targets in x and y"),
        ({"train": (TRAIN[0][:0], TRAIN[1][:0])}, ShapeError, "expected at least one frame .* in x and y, got 0 and 0"),
        (
            {"validation_data": (VALIDATION[0], [])},
            ShapeError,
            "expected at least one frame .* in validation_data, got 12 and 0",
        ),
    ],
)
def test_settings_and_data_that_do_not_fit_are_refused(settings, error, message):
    with pytest.raises(error, match=f"^fit: {message}"):
        run(**settings)


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ShapeError, match="call build"):
        fit(Sequential([InputLayer((12, 16, 3))]), *TRAIN)

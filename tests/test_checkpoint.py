"""Checkpoints: the run that wrote one can resume from it, no other run can."""

import shutil

import numpy as np
import pytest
from training_run import TRAIN, VALIDATION, network, run

from framecnn import DenseLayer, FlatteningLayer, FormatError, InputLayer, Sequential, load, save
from framecnn.data import Augmentation
from framecnn.storage import container
from framecnn.training.optimizers import SGD, AdamW


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The checkpoint of one epoch."""
    path = tmp_path_factory.mktemp("written") / "run.safetensors"
    run(checkpoint=path, epochs=1)
    return path


@pytest.fixture
def path(written, tmp_path):
    """A copy of it."""
    return shutil.copy(written, tmp_path / "run.safetensors")


def test_loading_a_checkpoint_as_a_model_says_how_to_get_the_model(path):
    with pytest.raises(FormatError, match=r"run\.safetensors: expected a model, got a checkpoint; resume its training"):
        load(path)


def other_network():
    return Sequential([InputLayer((12, 16, 3)), FlatteningLayer(), DenseLayer(3)]).build()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"optimizer": SGD()}, "optimizer"),
        ({"optimizer": AdamW(0.01)}, "optimizer"),
        ({"batch_size": 9}, "batch_size"),
        ({"seed": 4}, "seed"),
        ({"augment": None}, "augment"),
        ({"augment": Augmentation(flip=True)}, "augment"),
        ({"train": (TRAIN[0][:30], TRAIN[1][:30])}, "n_samples"),
        ({"validation_data": (VALIDATION[0][:5], VALIDATION[1][:5])}, "n_validation"),
        ({"validation_data": None}, "n_validation"),
        ({"model": network(np.float64)}, "dtype"),
        ({"model": other_network()}, "layers"),
    ],
)
def test_another_run_is_refused_and_told_the_difference(path, settings, name):
    before = path.read_bytes()
    with pytest.raises(
        FormatError, match=rf'run.safetensors: expected a checkpoint of this run \(\{{"{name}": .*start again'
    ):
        run(checkpoint=path, resume=True, **settings)
    assert path.read_bytes() == before


def test_without_resume_training_starts_again(path):
    before = path.read_bytes()
    _, history = run(checkpoint=path, epochs=1)
    assert history.seconds != [None]
    assert path.read_bytes() == before


def test_a_model_is_refused_as_checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    save(network(), path)
    with pytest.raises(FormatError, match=r"model.safetensors: expected a checkpoint of training, got a file of 'Seq"):
        run(checkpoint=path, resume=True)


def test_a_damaged_checkpoint_is_refused(path):
    content = path.read_bytes()
    for damaged in (content[:-10], content[:50], b"", content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"run.safetensors: expected"):
            run(checkpoint=path, resume=True)


def forge(path, change):
    """Change description and tensors, and write them with a digest that fits."""
    description, tensors = container.read(path)
    change(description, tensors)
    container.write(path, description, tensors)


def columns(**values):
    return lambda description, _: description["history"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda description, _: description.pop("history"), "expected a history of training, got a dam"),
        (
            lambda description, _: description["history"].pop("loss"),
            "expected a history of training, got a dam",
        ),
        (columns(loss=[1.0, 2.0]), "expected a history of training, got a dam"),
        (columns(loss=1.0), "expected a history of training, got a dam"),
        (columns(loss=[None]), "expected a history of numbers, got something else"),
        (columns(loss=["low"]), "expected a history of numbers, got something else"),
        (columns(val_accuracy=[[]]), "expected a history of numbers, got something else"),
        (
            lambda _, tensors: tensors.pop("weights/dense_1/bias"),
            "Sequential.load_state_dict: expected dense_1/bias as .* got nothing",
        ),
        (lambda _, tensors: tensors.update({"best/x": np.ones(1)}), "Sequential.load_state_dict: expected"),
        (lambda _, tensors: tensors.pop("optimizer/iterations"), "AdamW.load_state_dict: expected iterations, and"),
    ],
)
def test_a_forged_checkpoint_is_refused(path, change, message):
    forge(path, change)
    with pytest.raises(FormatError, match=f"^run.safetensors: {message}"):
        run(checkpoint=path, resume=True)


def test_forged_moments_are_refused_before_a_kernel_reads_them(path):
    forge(path, lambda _, tensors: tensors.update({"optimizer/velocity/dense_1/bias": np.ones(3, np.float32)}))
    with pytest.raises(ValueError, match=r"AdamW.update: expected moments .* dense_1/bias as \(16,\), got \(3,\)"):
        run(checkpoint=path, resume=True)


def test_the_best_weights_are_stored_once(tmp_path):
    """They are those of the last epoch, or are stored beside them."""
    path = tmp_path / "run.safetensors"
    for epochs in range(1, 7):
        _, history = run(checkpoint=path, resume=True, epochs=epochs)
        _, tensors = container.read(path)
        assert any(name.startswith("best/") for name in tensors) == (history.best_epoch != epochs)

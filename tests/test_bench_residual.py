"""The benchmark of a residual network trains in every library alike."""

import json

import numpy as np
import pytest

from benchmarks import bench_residual, timing
from benchmarks.peers import TRAINING_PEERS


@pytest.fixture
def archive(tmp_path):
    """Return an archive of tiny frames whose class is their brightness."""
    rng = np.random.default_rng(0)
    y = np.arange(48) % 2
    x = (rng.integers(0, 100, (48, 8, 8, 3)) + 100 * y[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "tiny.npz", x_train=x[:32], y_train=y[:32], x_test=x[32:], y_test=y[32:])
    return tmp_path / "tiny.npz"


def test_both_libraries_are_trained_by_the_same_recipe(archive, tmp_path, capsys):
    pytest.importorskip("keras")
    out = tmp_path / "result.json"
    bench_residual.main([str(archive), "--epochs", "3", "--json", str(out)])
    own, keras = json.loads(out.read_text())["trainings"]
    assert (own["library"], keras["library"]) == ("framecnn", "keras")
    assert own["parameters"] == keras["parameters"]
    assert abs(own["training_loss"] - keras["training_loss"]) < 0.01
    assert len(capsys.readouterr().out.splitlines()) >= 2


@pytest.mark.parametrize("arguments", [[], ["a.npz", "--steps"]])
def test_it_is_either_an_archive_or_steps(arguments, capsys):
    with pytest.raises(SystemExit):
        bench_residual.main(arguments)
    assert "expected an archive or --steps" in capsys.readouterr().err


@pytest.mark.parametrize("peer", [TRAINING_PEERS[0], TRAINING_PEERS[2]], ids=lambda peer: peer.name)
def test_a_peer_agrees_on_the_loss_after_an_update(peer, monkeypatch):
    """At least 16 filters: with fewer, PyTorch 2.13 writes outside its memory in the backward pass of a 1x1 convolution
    with strides 2, channels last."""
    pytest.importorskip(peer.packages[0])
    monkeypatch.setattr(bench_residual, "TRAINING_PEERS", (peer,))
    for name in ("PAUSE", "TURN"):
        monkeypatch.setattr(timing, name, 0.0)
    (result,) = bench_residual.time_steps(2, ((16, 16),), (3,))
    assert not result["missing"]
    assert max(found["difference"] for found in result["peers"].values()) < 1e-4

"""The benchmarks compare outputs before they time peers, name missing peers, and write their results."""

import json
import math
import os

import numpy as np
import pytest

from benchmarks import (
    as_ncnn,
    as_onnx,
    bench_bits,
    bench_kernels,
    bench_network,
    bench_pipeline,
    bench_reference,
    bench_start,
    cases,
    memory,
    peers,
    run,
    timing,
)
from benchmarks.channels_first import Unsupported, steps
from benchmarks.peers import FRAMECNN, NETWORK_PEERS, TFLITE, Missing, Peer
from framecnn import ActivationLayer, DenseLayer, FlatteningLayer, InputLayer, Sequential

TINY = cases.Case("tiny", 2, (32, 48, 3), cases.reference_layers)
TINY_BLOCK = cases.block(2, (12, 13, 3), 8, 3)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(timing, "TURN", 0.0)
    monkeypatch.setattr(timing, "YARDSTICK_SIZE", 64)


def peer(name, change):
    """Return a peer whose output is framecnn's, changed."""
    return Peer(name, lambda model, x: lambda: change(model.predict(x)))


def network(*peers):
    return bench_network.measure(2, [TINY], peers)[0]


def test_the_table_holds_every_promised_size():
    assert [(case.n, case.frame) for case in cases.NETWORKS] == [
        (16, (240, 360, 3)),
        (1, (240, 360, 3)),
        (64, (32, 32, 3)),
    ]
    convs = [case.layers()[0] for case in cases.BLOCKS]
    sizes = {(conv.kernel_size[0], conv.strides[0], conv.dilation_rate[0]) for conv in convs}
    assert sizes == {(3, 1, 1), (5, 1, 1), (7, 2, 1), (1, 1, 1), (3, 1, 2)}
    for case in (*cases.NETWORKS, *cases.BLOCKS, cases.FILTER_BANK):
        assert case.flops > 0
        assert case.network().output_shape


def test_the_batch_and_the_weights_come_from_a_seed():
    assert TINY.batch().tobytes() == TINY.batch().tobytes()
    one, other = (TINY.model().state_dict() for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
    assert all(value.any() for value in one.values())


def test_a_missing_peer_is_named_with_its_reason():
    absent = Peer("Absent", lambda model, x: None, packages=("no_such_package",))
    result = network(absent)
    assert result["missing"] == {"Absent": "not installed: no_such_package"}
    assert "* missing: **Absent**, not installed: no_such_package" in bench_network.markdown([result])


def test_a_peer_that_fails_is_named_with_its_error():
    def fail(_):
        raise OSError("no\nlibrary")

    assert network(peer("Broken", fail))["missing"] == {"Broken": "OSError: no library"}


@pytest.mark.parametrize("change", [lambda y: y + 1, lambda y: y[:1], lambda y: y * math.nan])
def test_a_peer_whose_output_differs_is_refused_before_timing(change):
    calls = []
    wrong = peer("Wrong", lambda y: calls.append(1) or change(y))
    result = network(wrong)
    assert "Wrong" not in result["peers"]
    assert result["missing"]["Wrong"].startswith("not timed: differs by ")
    assert len(calls) == 1


def test_the_difference_of_a_bfloat16_peer_is_reported_and_not_limited():
    coarse = Peer("Coarse", lambda model, x: lambda: model.predict(x) * np.float32(1.01), kind="bfloat16")
    assert network(coarse)["peers"]["Coarse"]["difference"] == pytest.approx(0.01, rel=0.01)


def test_an_error_of_our_own_ends_the_measurement():
    broken = Peer("framecnn", lambda model, x: None)
    with pytest.raises(Missing):
        timing.compare("tiny", [broken], TINY.model(), TINY.batch(), 2)


def test_a_comparison_gives_medians_ratios_and_the_share_of_the_yardstick():
    comparison = timing.Comparison("case", flops=10**9)
    comparison.timings = {
        "framecnn": timing.Timing([0.1, 0.2, 0.3]),
        "slow": timing.Timing([0.4, 0.9, 0.5], kind="direct"),
        "slower": timing.Timing([2.0, 2.0, 2.0], kind="direct"),
        "a @ b": timing.Timing([0.1, 0.1, 0.1]),
    }
    result = comparison.as_json()
    assert result["peers"]["framecnn"]["median_ms"] == 200
    assert result["peers"]["framecnn"]["quartiles_ms"] == pytest.approx([150, 250])
    assert result["peers"]["slow"]["ratio"] == 2.5
    assert result["peers"]["framecnn"]["gflops"] == 5
    assert result["peers"]["framecnn"]["share_of_yardstick"] == pytest.approx(5e9 * 0.1 / (2 * 64**3))
    assert result["fastest"] == {"direct": {"name": "slow", "ratio": 2.5}}


def test_turns_are_interleaved_and_every_round_begins_with_another():
    order = []
    seconds = timing.interleave({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(spent) for name, spent in seconds.items()} == {"a": 3, "b": 3}


QUICK_PEERS = [peer for peer in (*NETWORK_PEERS, TFLITE) if peer.name != "PyTorch compile + freezing"]  # that is slow


@pytest.mark.parametrize("peer", QUICK_PEERS, ids=lambda peer: peer.name)
def test_an_installed_peer_gives_the_same_numbers(peer):
    model, x = TINY.model(), TINY.batch()
    try:
        _, y = peer.prepare(model, x)
    except Missing as missing:
        if not str(missing).startswith("not installed"):
            raise
        pytest.skip(str(missing))
    tolerance = 0.05 if peer.may_differ else timing.TOLERANCE
    assert timing.relative_difference(y, model.predict(x)) < tolerance


def test_converting_to_mnn_installs_nothing_and_starts_no_program(tmp_path, monkeypatch):
    pytest.importorskip("MNN")
    pytest.importorskip("onnx")
    source, target, started = tmp_path / "x.onnx", tmp_path / "x.mnn", tmp_path / "started"
    source.write_bytes(as_onnx.onnx_bytes(TINY.model(), TINY.n))
    pip = tmp_path / "pip"
    pip.write_text(f"#!/bin/sh\ntouch {started}\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    as_onnx.convert_to_mnn(source, target)
    assert target.stat().st_size > 0
    assert not started.exists()


def test_dense_rows_follow_the_order_of_flattened_channels():
    model = Sequential([InputLayer((2, 3, 4)), FlatteningLayer(), DenseLayer(5)]).build(0)
    x = np.random.default_rng(0).random((2, 2, 3, 4), np.float32)
    _, dense = steps(model)
    rows = x.transpose(0, 3, 1, 2).reshape(2, -1)
    np.testing.assert_allclose(rows @ dense.weight.T + dense.bias, model.predict(x), rtol=1e-5)


def test_a_layer_without_equivalent_is_reported():
    model = Sequential([InputLayer((4, 4, 2)), ActivationLayer("tanh")]).build(0)
    with pytest.raises(Unsupported, match="no equivalent of ActivationLayer"):
        list(steps(model))


def test_ncnn_files_name_every_layer_and_hold_every_weight():
    model = TINY.model()
    text, weights = as_ncnn.ncnn_files(model)
    lines = text.splitlines()
    assert lines[0] == "7767517"
    assert lines[1] == f"{len(lines) - 2} {len(lines) - 2}"
    n_stored = sum(line.startswith(("Convolution", "InnerProduct")) for line in lines)
    assert len(weights) == 4 * (model.summary().n_params + n_stored)


def test_kernels_print_a_row_for_each_block_with_its_share_of_the_peak():
    result = bench_kernels.measure(2, [TINY_BLOCK], bank=None, block_peers=[peer("Twin", np.copy)])
    json.dumps(result, allow_nan=False)
    row = next(line for line in bench_kernels.markdown(result).splitlines() if line.startswith(f"| {TINY_BLOCK.name}"))
    assert "% |" in row
    assert "(Twin)" in row
    assert result["geometric_mean"] > 0


def trained_badly(model, x, labels):
    """Return the training of a peer that never updates."""
    step = peers.start_framecnn_training(model, x, labels)
    loss = step()
    return lambda: loss


def reference(*peers, gpu=None, devices=("cpu", "gpu"), monkeypatch):
    monkeypatch.setattr(bench_reference, "PREDICTING", ())
    monkeypatch.setattr(bench_reference, "TRAINING_PEERS", peers)
    monkeypatch.setattr(bench_reference, "keras_device", lambda: "CPU" if gpu is None else f"GPU: {gpu}")
    return bench_reference.measure(2, devices, TINY, TINY, TINY, with_memory=False)


def test_a_peer_that_trains_differently_is_refused(monkeypatch):
    twin = Peer("Twin", peers.training(peers.start_framecnn_training))
    lazy = Peer("Lazy", peers.training(trained_badly))
    step = reference(twin, lazy, monkeypatch=monkeypatch)["comparisons"][-1]
    assert step["peers"]["Twin"]["difference"] == 0
    assert step["missing"]["Lazy"].startswith("not timed: differs by ")


def test_keras_trains_as_framecnn_does():
    model, x = TINY.model(), TINY.batch()
    _, expected = peers.TRAINING.prepare(model, x)
    _, loss = peers.TRAINING_PEERS[0].prepare(model, x)
    assert timing.relative_difference(loss, expected) < 1e-4


def test_one_line_reports_that_there_is_no_gpu(monkeypatch):
    result = reference(monkeypatch=monkeypatch)
    assert result["devices"]["gpu"] is None
    assert bench_reference.markdown(result).count("No GPU: Keras finds none, so nothing was timed on one.") == 1
    assert "GPU" not in bench_reference.markdown({**result, "asked": ["cpu"]})


def test_a_gpu_is_named_and_its_peers_are_ranked_separately(monkeypatch):
    on_gpu = Peer("Keras on the GPU", peers.start_framecnn, kind="gpu")
    monkeypatch.setattr(bench_reference, "PREDICTING_ON_GPU", (on_gpu,))
    monkeypatch.setattr(bench_reference, "TRAINING_ON_GPU", ())
    result = reference(gpu="card", devices=("gpu",), monkeypatch=monkeypatch)
    assert result["devices"]["gpu"] == "card"
    assert result["comparisons"][0]["fastest"]["gpu"]["name"] == "Keras on the GPU"
    assert "GPU: card" in bench_reference.markdown(result)


def test_the_memory_of_training_is_measured_for_all_on_the_cpu(monkeypatch, tmp_path, capsys):
    asked = []
    peak = {"before": 1.0, "peak": 3.0, "more": 2.0}
    monkeypatch.setattr(bench_reference, "peak_memory", lambda what, name: asked.append((what, name)) or peak)
    measured = bench_reference.measure
    monkeypatch.setattr(bench_reference, "measure", lambda rounds, devices: measured(rounds, devices, TINY, TINY, TINY))
    monkeypatch.setattr(bench_reference, "PREDICTING", ())
    monkeypatch.setattr(bench_reference, "TRAINING_PEERS", ())
    bench_reference.main(["--device", "cpu", "--rounds", "2", "--json", str(tmp_path / "figures.json")])
    assert asked == [("training step", "framecnn")]
    assert json.loads((tmp_path / "figures.json").read_text())["memory"] == {"framecnn": peak}
    assert "| framecnn | 1 | 3 | 2 |" in capsys.readouterr().out


def test_memory_is_that_of_one_process(monkeypatch, capsys):
    run = Peer("framecnn", peers.start_framecnn)
    monkeypatch.setitem(memory.MEASURED, "filter bank", (TINY_BLOCK, (run,)))
    monkeypatch.setattr(memory.sys, "argv", ["memory", "filter bank", "framecnn"])
    memory.main()
    figures = json.loads(capsys.readouterr().out)
    assert figures["more"] == pytest.approx(figures["peak"] - figures["before"])


def test_bits_are_equal_and_a_difference_would_be_reported():
    result = bench_bits.measure(cases=[TINY], n_frames=8)
    assert result[0]["equal"]
    assert "equal" in bench_bits.markdown(result)
    wrong = [{"frame": (1, 1, 1), "frames": 8, "equal": False, "different": ["2 threads, batch 7"]}]
    assert "different: 2 threads, batch 7" in bench_bits.markdown(wrong)


def test_files_become_predictions_in_frames_a_second():
    all_peers = (bench_pipeline.FROM_FILES, *bench_pipeline.PEERS[:1])
    result = bench_pipeline.measure(2, {(64, 48): 4}, (32, 48), all_peers)
    assert len(result[0]["peers"]) == 2
    assert all(timed["frames_per_second"] > 0 for timed in result[0]["peers"].values())
    assert "4 files of 64x48" in bench_pipeline.markdown(result)


def test_the_start_is_measured_in_fresh_processes(monkeypatch):
    monkeypatch.setattr(bench_start, "REPEATS", 1)
    result = bench_start.measure(first="print(0.5)", everything="print('compiling'); print(7)")
    assert [line["median_s"] for line in result.values()][1:] == [0.5, 7.0]
    assert "7.00" in bench_start.markdown(result)


def test_the_report_is_json_with_machine_date_and_command(tmp_path, monkeypatch, capsys):
    measured = network()
    monkeypatch.setattr(bench_network, "measure", lambda rounds: [measured])
    file = tmp_path / "report.json"
    assert run.main(["--only", "network", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["command"] == f"python -m benchmarks.run --only network --json {file}"
    assert report["machine"]["cores"] >= report["machine"]["threads"] >= 1
    assert report["machine"]["versions"]["numpy"] == np.__version__
    assert "framecnn" in report["results"]["network"][0]["peers"]
    assert "## network" in capsys.readouterr().out


def test_a_benchmark_that_crashes_is_named_and_the_others_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(run, "BENCHMARKS", {"no-such-benchmark": None})
    file = tmp_path / "report.json"
    assert run.main(["--json", str(file)]) == 1
    assert json.loads(file.read_text())["failed"] == {"no-such-benchmark": "exit code 2"}
    assert "failed: exit code 2" in capfd.readouterr().out


def test_one_round_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["--rounds", "1"])
    assert "expected --rounds of at least 2" in capsys.readouterr().err


def test_framecnn_is_the_first_peer_everywhere():
    assert FRAMECNN.name == bench_pipeline.FROM_FILES.name == "framecnn"

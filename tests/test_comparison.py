"""Every model on the same folds of a folder; figures from which a later run resumes."""

import json
import re

import numpy as np
import pytest
from commands import write_frames
from pictures import film_folder
from reports import predicting

from framecnn import DataError, FrameFolder, ShapeError
from framecnn.comparison import MODELS, Comparison
from framecnn.networks.reference import reference_network


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("comparison") / "films")


@pytest.fixture
def folder(films):
    return FrameFolder(films, size=(24, 32))


def outcome_of(name, test, right):
    """Return an outcome whose first `right` predictions are correct."""
    predictions = test.targets.copy()
    predictions[right:] = (predictions[right:] + 1) % 3
    return {
        "probabilities": predicting(predictions, 0.75, 3).tolist(),
        "train_seconds": 2.0,
        "frames_per_second": 100.0,
        "peak_megabytes": 300.0,
        "model_bytes": 5000,
        "device": "CPU",
        "chosen": {"seconds": 1.5} if MODELS[name].at_network_size else {},
    }


class Script:
    """Stands for the processes: returns predictions of which one, two, ... are wrong, and records the jobs."""

    def __init__(self):
        self.jobs, self.instead = [], {}

    def __call__(self, job):
        self.jobs.append(job)
        test = next(test for _, test in self.parts if test.paths == job["test"]["paths"])
        place = list(MODELS).index(job["model"])
        return self.instead.get(job["model"]) or outcome_of(job["model"], test, len(test) - 1 - place)

    def finish(self, comparison):
        """Run all that is pending in a comparison."""
        self.parts = comparison.parts
        while comparison.pending:
            comparison.run_next(lambda *_: None)
        return comparison


@pytest.fixture
def script():
    return Script()


def compared(folder, script, **settings):
    return script.finish(Comparison(folder, folds=3, network_size=(16, 16), run=script, **settings))


def test_every_model_gets_the_same_frames_of_every_fold_at_its_size(folder, script):
    compared(folder, script, seed=3)
    jobs = script.jobs
    assert len(jobs) == 3 * len(MODELS)
    for start in range(0, len(jobs), len(MODELS)):
        own = jobs[start : start + len(MODELS)]
        assert [job["model"] for job in own] == list(MODELS)
        for name in ("targets", "groups", "seed"):
            assert all(job[name] == own[0][name] for job in own)
        for part in ("train", "test"):
            assert all(job[part]["paths"] == own[0][part]["paths"] for job in own)
            assert [job[part]["size"] for job in own] == 4 * [[24, 32]] + 2 * [[16, 16]]
        assert not set(own[0]["groups"]) & {
            folder.groups[folder.samples.index((path, target))]
            for path, target in folder.samples
            if path in own[0]["test"]["paths"]
        }
    tested = [path for job in jobs[:: len(MODELS)] for path in job["test"]["paths"]]
    assert sorted(tested) == [path for path, _ in folder.samples]
    json.dumps(jobs)


def test_figures_follow_from_the_predictions(folder, script):
    comparison = compared(folder, script)
    figures = comparison.figures()
    assert list(figures) == list(MODELS)
    for place, own in enumerate(figures.values()):
        sizes = [len(test) for _, test in comparison.parts]
        assert own["accuracies"] == pytest.approx([(size - 1 - place) / size for size in sizes])
        assert own["accuracy"] == np.trace(own["confusion"]) / len(folder)
        assert own["interval"][0] < own["accuracy"] < own["interval"][1]
        assert np.sum(own["confusion"]) == len(folder)
        assert np.trace(own["confusion"]) == len(folder) - 3 * (1 + place)
        assert (own["train_seconds"], own["model_bytes"], own["device"]) == (2, 5000, "CPU")
        assert own["final_training_seconds"] == (1.5 if place > 3 else None)
    assert next(iter(comparison.results.values())).paths[0].startswith(str(folder.root))


def test_results_are_made_again_only_after_another_model_has_run(folder, script):
    comparison = compared(folder, script)
    assert comparison.results is comparison.results
    script.parts = comparison.parts
    half = Comparison(folder, folds=3, network_size=(16, 16), run=script)
    n_frames = []
    while half.pending:
        half.run_next(lambda *_: None)
        n_frames.append(sum(result.n_frames for result in half.results.values()))
    assert sorted(set(n_frames)) == [0, *np.cumsum([len(MODELS) * len(test) for _, test in half.parts]).tolist()]
    before = half.results
    half.resume(json.loads(json.dumps(comparison.to_dict())))
    assert half.results is not before
    assert isinstance(half.folds[0]["outcomes"]["network"]["probabilities"], np.ndarray)


def test_every_model_has_a_row_of_predictions_for_every_frame(folder, script):
    comparison = compared(folder, script)
    rows = list(comparison.prediction_rows())
    assert len(rows) == len(MODELS) * len(folder)
    assert list(dict.fromkeys(row.part for row in rows)) == [model.title for model in MODELS.values()]
    for row in rows:
        fold = comparison.parts[int(row.fold) - 1][1]
        assert row.path in fold.paths
        assert row.label == row.path.split("/")[0]


def test_a_missing_model_is_named_and_has_no_figures(folder, script):
    script.instead["keras_network"] = {"missing": "no Keras"}
    comparison = compared(folder, script)
    assert comparison.missing == {"keras_network": "no Keras"}
    assert list(comparison.figures()) == ["kmeans_system", "plain_head", "pretrained", "both", "network"]
    assert comparison.to_dict()["missing"] == {"keras_network": "no Keras"}


def test_warnings_name_the_fold_that_lacks_a_class(tmp_path):
    folder = FrameFolder(film_folder(tmp_path, {"a": 9, "b": 9, "c": 2}), size=(24, 32))
    warnings = Comparison(folder, folds=4, network_size=(16, 16)).warnings
    assert sum(re.fullmatch("fold [1-4]: no test frames for class 'c'", text) is not None for text in warnings) == 2
    assert [text for text in warnings if not text.startswith("fold")] == folder.warnings


def test_a_failed_model_is_named_with_its_reason_and_the_others_keep_their_figures(folder, script):
    whole = compared(folder, script).to_dict()
    script.instead["network"] = {"failed": "the loss is not finite"}
    comparison = compared(folder, script)
    assert comparison.failed == {"network": "fold 3: the loss is not finite"}
    assert comparison.figures() == {name: own for name, own in whole["models"].items() if name != "network"}
    assert comparison.accuracies(0).keys() == MODELS.keys() - {"network"}
    assert comparison.to_dict()["failed"] == comparison.failed


@pytest.mark.parametrize("n_done", [0, 1, 7, 17])
def test_a_later_run_resumes_after_the_last_outcome(folder, script, n_done):
    whole = compared(folder, script).to_dict()
    comparison = Comparison(folder, folds=3, network_size=(16, 16), run=script)
    for _ in range(n_done):
        comparison.run_next(lambda *_: None)
    script.jobs.clear()
    resumed = Comparison(folder, folds=3, network_size=(16, 16), run=script)
    resumed.resume(json.loads(json.dumps(comparison.to_dict())))
    assert script.finish(resumed).to_dict() == whole
    assert len(script.jobs) == 3 * len(MODELS) - n_done


@pytest.mark.parametrize("outcome", [{"missing": "no Keras"}, {"failed": "too little memory"}])
def test_models_that_failed_or_were_missing_are_run_again_on_resuming(folder, script, outcome):
    whole = compared(folder, script).to_dict()
    script.instead["plain_head"] = outcome
    before = compared(folder, script).to_dict()
    script.instead.clear()
    script.jobs.clear()
    comparison = Comparison(folder, folds=3, network_size=(16, 16), run=script)
    comparison.resume(json.loads(json.dumps(before)))
    assert json.dumps(script.finish(comparison).to_dict()) == json.dumps(whole)
    assert [job["model"] for job in script.jobs] == 3 * ["plain_head"]


def test_the_outcomes_of_a_fold_survive_an_error_in_it(folder, script):
    def run(job):
        if job["model"] == "plain_head":
            raise DataError("compare: No space left on device")
        return script(job)

    comparison = Comparison(folder, folds=3, network_size=(16, 16), run=run)
    with pytest.raises(DataError, match="No space left"):
        script.finish(comparison)
    assert list(comparison.to_dict()["folds"][0]["outcomes"]) == ["kmeans_system"]
    assert comparison.pending[0] == (0, "plain_head")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"folds": 2}, "folds"),
        ({"network_size": (32, 32)}, "network_size"),
        ({"seed": 1}, "seed"),
    ],
)
def test_figures_with_other_settings_are_refused(folder, settings, named):
    before = Comparison(folder, **{"folds": 3, "network_size": (16, 16), **settings}).to_dict()
    with pytest.raises(DataError, match=f"got different values of {named}; name another file"):
        Comparison(folder, folds=3, network_size=(16, 16)).resume(before)


def test_figures_of_other_frames_are_refused(folder):
    before = Comparison(folder, folds=3, network_size=(16, 16)).to_dict()
    fewer = folder.without([folder.samples[0][0]])
    with pytest.raises(DataError, match="got different values of frames, digest; name another file"):
        Comparison(fewer, folds=3, network_size=(16, 16)).resume(before)


@pytest.mark.parametrize("data", [["no figures"], {"folder": "films", "seed": 0}, {"settings": {}}])
def test_figures_that_are_not_of_a_comparison_are_refused(folder, data):
    with pytest.raises(DataError, match="expected figures of framecnn compare to resume from, got others"):
        Comparison(folder, folds=3, network_size=(16, 16)).resume(data)


def test_frames_too_small_for_the_networks_are_refused_before_any_work(folder):
    with pytest.raises(ShapeError, match="expected network_size of at least 16x16, got 15x16"):
        Comparison(folder, network_size=(15, 16))
    reference_network((16, 16, 3), 2).summary()
    with pytest.raises(ShapeError):
        reference_network((15, 16, 3), 2).summary()

"""The contents of the report of a comparison."""

from collections.abc import Iterator, Mapping
from typing import Any

from framecnn.comparison.folds import Comparison
from framecnn.comparison.models import MODELS
from framecnn.report import Choice, ComparisonData, ShownFrame
from framecnn.text import percent

__all__ = ["comparison_data"]


def comparison_data(
    comparison: Comparison, machine: str, versions: Mapping[str, str], predictions: str = ""
) -> ComparisonData:
    """Return what the report of a comparison shows.

    Parameters
    ----------
    comparison : Comparison
        One that has been run.
    machine : str
        A description of the machine.
    versions : mapping of str to str
        The software.
    predictions : str, optional
        The name of the table of predictions that is written with the report.

    Returns
    -------
    ComparisonData
    """
    settings = comparison.settings
    return ComparisonData(
        title=f"Comparison of {len(comparison.outcomes)} models: {settings['folder']}",
        classes=settings["classes"],
        about={model.title: model.about for model in MODELS.values()},
        figures={own["title"]: own for own in comparison.figures().values()},
        results=list(comparison.results.values()),
        shown=list(_shown(comparison)),
        choices=[
            Choice(MODELS[name].title, fold, _in_words(outcome["chosen"]))
            for name, outcomes in comparison.outcomes.items()
            for fold, outcome in enumerate(outcomes, start=1)
        ],
        facts={
            "frames": f"{settings['frames']:,} of {len(settings['classes'])} classes",
            "folds": f"{settings['folds']} by group ({settings['groups']}), stratified by class",
            "frame size": "x".join(map(str, settings["size"])),
            "frame size for the networks": "x".join(map(str, settings["network_size"])),
            "seed": str(settings["seed"]),
            "machine": machine,
        },
        predictions=predictions,
        versions=versions,
        warnings=[*comparison.absences, *comparison.warnings],
    )


def _shown(comparison: Comparison) -> Iterator[ShownFrame]:
    for fold, (_, test) in zip(comparison.folds, comparison.parts, strict=True):
        row, outcomes = test.paths.index(fold["shown"]), fold["outcomes"]
        probabilities = {
            MODELS[name].title: outcomes[name]["probabilities"][row].tolist() for name in comparison.outcomes
        }
        truth = test.classes[dict(test.samples)[fold["shown"]]]
        yield ShownFrame(str(comparison.folder.root / fold["shown"]), truth, fold["fold"], probabilities)


def _in_words(chosen: Mapping[str, Any]) -> str:
    """Return the settings that were chosen; for a network, also its validation accuracy."""
    if "learning_rate" not in chosen:
        grid = "whole frame" if chosen["grid"] == "1x1" else chosen["grid"]
        parts = [] if grid is None else [f"pooling grid: {grid}"]
        parts += [] if chosen["alpha"] is None else [f"ridge penalty (alpha): {chosen['alpha']:g}"]
        return "; ".join(parts)
    augmented = "augmented" if chosen["augmented"] else "not augmented"
    accuracy, epoch = chosen["val_accuracy"], chosen["best_epoch"]
    result = "" if accuracy is None else f"; validation accuracy {percent(accuracy)} after epoch {epoch}"
    return f"learning rate {chosen['learning_rate']:g}, {augmented}{result}"

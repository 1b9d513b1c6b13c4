"""Whether the parts of a folder fit a classifier: the names of its classes, and the frames of its training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from framecnn.data import FrameSubset
from framecnn.errors import DataError
from framecnn.typing import Array

__all__ = ["check_training_part", "class_names", "targets_of"]


def class_names(
    classifier: Any, training: FrameSubset | None = None, classes: Sequence[str] | None = None
) -> Sequence[str]:
    """Return the names of the classes of a classifier, in the order of its labels.

    Parameters
    ----------
    classifier : FrameClassifier
    training : FrameSubset, optional
        The frames of its training. Integer labels are class numbers of it, unless they have no such meaning; without
        it, the name of a class is its label as text.
    classes : sequence of str, optional
        The names, if they are known.

    Returns
    -------
    sequence of str

    Raises
    ------
    DataError
        If there is not one of `classes` for each label, or integer labels may be class numbers or names of classes.
    """
    labels = classifier.classes_.tolist()
    if classes is not None:
        if len(classes) != len(labels):
            raise DataError(f"assess: expected a name for each of the {len(labels)} classes, got {len(classes)}")
        return classes
    as_text = [str(label) for label in labels]
    names = [] if training is None else training.classes
    if not all(isinstance(label, int) and 0 <= label < len(names) for label in labels):
        return as_text
    numbered = [names[label] for label in labels]
    if numbered != as_text and set(as_text) <= set(names):
        raise DataError(
            f"assess: expected labels with one meaning, got {labels[0]} to {labels[-1]}, which may be numbers of "
            f"classes or their names; pass classes=[...], the name of each label"
        )
    return numbered


def targets_of(classes: Sequence[str], part: FrameSubset) -> Array:
    """Return the class of each frame of a part, (n,), as an index of the classes of a classifier.

    Parameters
    ----------
    classes : sequence of str
    part : FrameSubset

    Returns
    -------
    array of int, shape (n,)

    Raises
    ------
    DataError
        If a frame has another class.
    """
    number = {name: index for index, name in enumerate(classes)}
    if unknown := sorted({part.classes[target] for target in part.targets} - number.keys()):
        raise DataError(
            f"assess: expected frames of the model's classes, got frames of {unknown[0]!r}; leave them out, or pass "
            "classes=[...] if the model has other labels for them"
        )
    return np.array([number[part.classes[target]] for target in part.targets], np.int64)


def check_training_part(classifier: Any, part: FrameSubset) -> None:
    """Raise DataError unless the frames of a part can be those on which a classifier was fitted, in the same order.

    Parameters
    ----------
    classifier : FrameClassifier
    part : FrameSubset
    """
    names, kept = classifier.training_names_, int(classifier.head_.outliers_.rows[-1]) + 1
    fitted = getattr(classifier.head_, "labels_", names)  # a head from a file does not know its samples
    expected = kept if fitted is None else len(fitted)
    advice = "pass others under another name than 'training'"
    if len(part) < expected or (fitted is not None and len(part) > expected):
        raise DataError(
            f"assess: expected the {expected:,} frames on which the model was fitted as the part 'training', got "
            f"{len(part):,} frames; {advice}"
        )
    known = {*part.paths, *part.files}
    if names is None or known.isdisjoint(names.tolist()):
        return  # the names are no paths
    for name, *own in zip(names.tolist(), part.paths, part.files, strict=True):
        if name not in own:
            raise DataError(
                "assess: expected the frames on which the model was fitted, in the same order, as the part 'training', "
                f"got {own[0]!r} in the place of {name!r}; {advice}"
            )

"""The text that a fitted estimator prints."""

from typing import Any

__all__ = ["FittedRepr"]

SHOWN_CLASSES = 5


class FittedRepr:
    """The repr of scikit-learn, and what the estimator was fitted to."""

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        text = super().__repr__(N_CHAR_MAX)  # type: ignore[call-arg]
        facts = [f"fitted to {fact}" if not number else fact for number, fact in enumerate(_facts(self))]
        return ", ".join([text, *facts])


def _facts(estimator: Any) -> list[str]:
    if not hasattr(estimator, "n_features_in_"):
        return []
    shape = getattr(getattr(estimator, "features_", estimator), "frame_shape_", None)
    seen = f"{estimator.n_features_in_:,} features" if shape is None else f"frames of {'x'.join(map(str, shape))}"
    classes = [str(label) for label in getattr(estimator, "classes_", ())]
    shown = ", ".join(classes[:SHOWN_CLASSES]) + (", ..." if len(classes) > SHOWN_CLASSES else "")
    return [seen, f"{len(classes):,} classes ({shown})"] if classes else [seen]

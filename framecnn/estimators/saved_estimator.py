"""What all estimators share: scikit-learn's base classes, files, and the text that a fitted one prints."""

from typing import Any

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from framecnn.storage.model_file import SavedModel

__all__ = ["SavedEstimator"]

SHOWN_CLASSES = 5


class SavedEstimator(SavedModel, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A transformer that is saved to a file; its repr is that of scikit-learn, and what it was fitted to."""

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        text = super().__repr__(N_CHAR_MAX)
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

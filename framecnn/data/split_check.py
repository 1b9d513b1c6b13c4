"""What is wrong with a split: classes that a part lacks, and groups or near-duplicates on both sides."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from framecnn.data.split import PARTS
from framecnn.typing import Array

__all__ = ["SplitCheck"]


@dataclass(frozen=True)
class SplitCheck:
    """The facts about frames by which their splits are checked.

    Parameters
    ----------
    classes : sequence of str
        The names of the classes.
    paths : sequence of str, length n
        The path of each frame.
    targets : array of int, shape (n,)
        The class of each frame.
    groups : array of str, shape (n,)
        The group of each frame.
    clusters : array of int, shape (n,)
        The cluster of near-duplicates of each frame.
    by_movie : collection of str
        The classes whose groups are movies.

    Examples
    --------
    >>> targets, groups = np.array([0, 0, 1]), np.array(["s1", "s2", "s3"])
    >>> check = SplitCheck(["a", "b"], ["1.jpg", "2.jpg", "3.jpg"], targets, groups, np.arange(3), ())
    >>> check.one_group()
    {'b': "class 'b' has one group only: all its frames are used for training, none for the test"}
    >>> check.warnings({"training": np.array([0, 2]), "test": np.array([1])})
    ("class 'b' has one group only: all its frames are used for training, none for the test",)
    """

    classes: Sequence[str]
    paths: Sequence[str]
    targets: Array
    groups: Array
    clusters: Array
    by_movie: Collection[str]

    def one_group(self) -> dict[str, str]:
        """Return a warning for each class that has one group only, by class."""
        return {
            name: f"class {name!r} has one group only: all its frames are used for training, none for the test"
            if name not in self.by_movie
            else f"class {name!r} has one movie only: all its frames are used for training, none for the test; there "
            "is no evidence how well it holds on a movie that was not seen: add frames of at least two other movies"
            for target, name in enumerate(self.classes)
            if self._n_groups(target) == 1
        }

    def warnings(self, rows: Mapping[str, Array], is_given: bool = False) -> tuple[str, ...]:
        """Return the warnings about a split.

        Parameters
        ----------
        rows : mapping of str to array of int
            The frames of each part that should have some; the first part is ``training``.
        is_given : bool, default False
            Whether the data gives parts, so that groups may be on both sides.

        Returns
        -------
        tuple of str
        """
        others = np.concatenate([own for part, own in rows.items() if part != PARTS[0]] or [np.empty(0, np.int64)])
        similar = others[np.isin(self.clusters[others], self.clusters[rows[PARTS[0]]])]
        found = self._lacking(rows, is_given)
        if len(similar):
            parts = " and ".join(part for part in rows if part != PARTS[0])
            found.append(
                f"near-duplicates of training frames: {len(similar):,} of {len(others):,} {parts} frames "
                f"(first: {self.paths[similar.min()]!r}); their accuracy may be too high"
            )
        rest = self.groups[np.setdiff1d(others, similar)]
        if is_given and (shared := sorted(set(rest.tolist()).intersection(self.groups[rows[PARTS[0]]].tolist()))):
            found.append(
                f"groups with frames both in the training part and in a part that is given: {len(shared):,} "
                f"(first: {shared[0]!r}); the accuracy may be too high"
            )
        return tuple(dict.fromkeys(found))

    def _lacking(self, rows: Mapping[str, Array], is_given: bool) -> list[str]:
        alone = {} if is_given else self.one_group()
        found = []
        for part, own in rows.items():
            for target in sorted(set(range(len(self.classes))) - set(self.targets[own].tolist())):
                name, text = self.classes[target], f"no {part} frames for class {self.classes[target]!r}"
                if name in self.by_movie:
                    text += (
                        f": it holds {self._n_groups(target)} movies, which stay whole, and each part needs one; "
                        "add frames of other movies"
                    )
                found.append(text if part == PARTS[0] else alone.get(name, text))
        return found

    def _n_groups(self, target: int) -> int:
        return len(np.unique(self.groups[self.targets == target]))

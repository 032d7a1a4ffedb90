"""The registry of data sets, and what a class offers to be in it.

A data set is an object of ``visionmtl.types.MultiTaskDataset``. Its constructor, or its classmethod
``build`` where it has one, is given by name what it asks for of

- ``root``: the folder of the data set, which a config must state then,
- ``split``: the name of a split; or, where the class declares ``split_types``, an object of the
  class that ``split_types`` has for the role ``train`` or ``val``: its fields are the options of
  ``data.train`` and ``data.val``,
- ``tasks``: names of the wanted tasks, in order; None for all.

Everything else that it takes is an option: keyword-only, with a type, a range and a default::

    @DATASETS.register("mine")
    class MyDataset:
        def __init__(self, root, split, tasks=None, *, scale: Positive = 1.0) -> None: ...

A class that can be told from its files also has ``matches(root)``, ``title`` and ``splits``. One
whose images are files of their own has ``image_file(index)``. One without a ``root`` may have
``source``: what model cards call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import visionmtl.tasks  # noqa: F401 - registers the kinds, of which data sets make their tasks
from visionmtl._registry import Registry
from visionmtl.types import MultiTaskDataset

DATASETS: Registry[MultiTaskDataset] = Registry("data set")
"""Name in a config -> class."""


@runtime_checkable
class HasImageFiles(Protocol):
    """A data set that knows the files of its images."""

    def image_file(self, index: int) -> Path | None:
        """The file of a sample's image; None where it has none of its own."""


def image_file_of(dataset: MultiTaskDataset, index: int) -> Path | None:
    """The file of a sample's image; None where it has none of its own, or the set cannot say."""
    if isinstance(dataset, HasImageFiles):
        return dataset.image_file(index)
    return None


def identify(root: Path | str) -> str | None:
    """The name of the data set that a folder looks like, or None."""
    root = Path(root)
    for name, cls in DATASETS.items():
        matches = getattr(cls, "matches", None)
        if matches is not None and matches(root):
            return name
    return None


def title_of(name: str) -> str:
    """What messages call a data set."""
    title: str = getattr(DATASETS[name], "title", name)
    return title

"""Several data sets as one: their tasks and classes united, their samples drawn by size, evenly or
in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from visionmtl.data.draw import drawn, quotas
from visionmtl.data.matched import MatchedDataset
from visionmtl.types import MultiTaskDataset, Sample, TaskSpec


class MixtureDataset:
    """Data sets with different tasks, and different classes, behind one list of tasks.

    With heads ``shared``, tasks of one name are one task. Its classes are those of all sets,
    matched by name; an annotation speaks of the classes of its own set only (``known``), so that
    nothing is learnt about the others. The range of depth, and the tolerance of edges, is the
    largest. With ``per_set`` every set has its own tasks, named ``<set>_<task>``.

    A sample of a set has no annotation for the tasks that its set lacks. Its id is ``<set>/<id>``.

    Args:
        sets: name -> data set, in order.
        heads: ``shared`` or ``per_set``.
        tasks: names of the wanted tasks, in the wanted order; all in the order of the sets by
            default.
        temperature: T >= 1 in the share n^(1/T) / sum n^(1/T) of a set of n samples in an epoch: 1
            draws by size, infinity evenly, as in Arivazhagan et al. 2019,
            https://arxiv.org/abs/1907.05019.

    Attributes:
        tasks: the united tasks.
        sizes: samples per set.
        quotas: samples drawn per set and epoch; they add up to the number of all samples.

    Raises:
        ValueError: no sets, tasks of one name and different kinds, unknown tasks, a temperature
            below 1.
    """

    def __init__(
        self,
        sets: Mapping[str, MultiTaskDataset],
        heads: str = "shared",
        tasks: Sequence[str] | None = None,
        temperature: float = 1.0,
    ) -> None:
        if not sets:
            raise ValueError("data.sets: a mixture needs at least one set")
        if not temperature >= 1:
            raise ValueError(f"data.temperature: must be at least 1, got {temperature}")
        united = _united(sets, heads)
        names = list(united) if tasks is None else list(tasks)
        unknown = [name for name in names if name not in united]
        if unknown:
            raise ValueError(f"tasks: unknown tasks {unknown}; the mixture has {', '.join(united)}")
        self.names = list(sets)
        self.tasks = [united[name] for name in names]
        self._sets: list[MatchedDataset] = []
        for name, dataset in sets.items():
            renamed = _renamed(name, dataset, heads)
            pairs = [(own, united[to]) for to, own in renamed if to in names]
            if not pairs:
                wanted = ", ".join(names)
                raise ValueError(f"tasks: set {name!r} has none of {wanted}; leave it out")
            self._sets.append(MatchedDataset(dataset, pairs))
        self.sizes = [len(dataset) for dataset in self._sets]
        self.quotas = quotas(self.sizes, temperature)
        self._starts: list[int] = np.cumsum([0, *self.sizes]).tolist()

    def __len__(self) -> int:
        return self._starts[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """The position of the set that sample ``index`` comes from, and the sample's index in
        it.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a mixture of {len(self)}")
        part = bisect_right(self._starts, index) - 1
        return part, index - self._starts[part]

    def sample_id(self, index: int) -> str:
        part, own = self.locate(index)
        return f"{self.names[part]}/{self._sets[part].sample_id(own)}"

    def __getitem__(self, index: int) -> Sample:
        part, own = self.locate(index)
        return replace(self._sets[part][own], sample_id=self.sample_id(index))

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        """The samples of an epoch in their order, int64 (len(self),); depends on the arguments
        alone.

        A set is gone through in random order, and again in another, across epochs: no sample comes
        a second time before all others of its set have come once.
        """
        return drawn(self.sizes, self.quotas, seed, epoch)

    def own_tasks(self) -> list[tuple[str, TaskSpec]]:
        """Set and task, where a set has other classes, or another range, than the task of the
        mixture.
        """
        differing = []
        for name, dataset in zip(self.names, self._sets, strict=True):
            for own, united in dataset.pairs:
                if own.kind != united.kind:
                    differing.append((name, own))
        return differing

    def shares(self) -> str:
        """How much of an epoch comes from which set, in a line."""
        parts = []
        for name, quota, size in zip(self.names, self.quotas, self.sizes, strict=True):
            parts.append(f"{quota} ({quota / len(self):.0%}) from the {size} of {name}")
        return "samples of an epoch: " + ", ".join(parts)


class MixtureTransform:
    """The transform of each set, by the set's name, which is the first part of a sample's id."""

    def __init__(self, transforms: Mapping[str, Callable[[Sample, int], Sample]]) -> None:
        self._transforms = dict(transforms)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        return self._transforms[sample.sample_id.partition("/")[0]](sample, seed)


def mixture_of(dataset: object) -> MixtureDataset | None:
    """The mixture that a data set is, or whose samples it shows in their order; None where it is
    none.
    """
    while isinstance(dataset, MatchedDataset):
        dataset = dataset.dataset
    if isinstance(dataset, MixtureDataset):
        return dataset
    return None


def _renamed(name: str, dataset: MultiTaskDataset, heads: str) -> list[tuple[str, TaskSpec]]:
    """Name in the mixture and own task, of every task of a set."""
    prefix = "" if heads == "shared" else f"{name}_"
    return [(prefix + spec.name, spec) for spec in dataset.tasks]


def _united(sets: Mapping[str, MultiTaskDataset], heads: str) -> dict[str, TaskSpec]:
    """The tasks of all sets by their name in the mixture."""
    united: dict[str, TaskSpec] = {}
    for name, dataset in sets.items():
        for to, own in _renamed(name, dataset, heads):
            if to in united and heads == "per_set":  # task b_c of set a, task c of set a_b
                raise ValueError(
                    f"data.sets: two sets would have a task {to!r}; give set {name!r} another name"
                )
            before = united.setdefault(to, replace(own, name=to))
            if type(before.kind) is not type(own.kind):
                kinds = f"{own.kind.name} in set {name!r} and {before.kind.name} in another"
                raise ValueError(
                    f"data.sets: task {to!r} is {kinds}; "
                    "choose tasks of each set, or heads: per_set"
                )
            try:
                united[to] = replace(before, kind=before.kind.united(own.kind))
            except ValueError as error:
                raise ValueError(f"task {to!r}: {error}") from None
    return united

"""A data set seen through the tasks and class ids of a model, or of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from visionmtl.types import BoxTarget, DenseTarget, MultiTaskDataset, Sample, Target, TaskSpec


class MatchedDataset:
    """A data set whose tasks have other names, and whose classes have other ids.

    A wanted task may have classes that the data set does not have. Its annotations then say of
    which classes they speak (``known``): of the others they neither mark nor rule out anything.

    Args:
        dataset: what it reads from.
        pairs: the data set's own task and the wanted one, in the wanted order.

    Raises:
        ValueError: the kinds of a pair differ, or the data set has a class that the wanted task
            lacks.
    """

    def __init__(
        self, dataset: MultiTaskDataset, pairs: Sequence[tuple[TaskSpec, TaskSpec]]
    ) -> None:
        self.dataset = dataset
        self.pairs = list(pairs)
        self.tasks = [wanted for _, wanted in pairs]
        self._own = {wanted.name: own.name for own, wanted in pairs}
        self._maps = {wanted.name: _class_map(own, wanted) for own, wanted in pairs}

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_id(self, index: int) -> str:
        return self.dataset.sample_id(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        targets = {}
        for name, own in self._own.items():
            if own in sample.targets:
                targets[name] = self._mapped(name, sample.targets[own])
        return replace(sample, targets=targets)

    def _mapped(self, name: str, target: Target) -> Target:
        found = self._maps[name]
        if found is None:
            return target
        ids, num_classes = found
        spoken_of = ids
        if target.known is not None:
            spoken_of = ids[target.known]
        known = np.zeros(num_classes, bool)
        known[spoken_of] = True
        mask = None if known.all() else known
        if isinstance(target, BoxTarget):
            return BoxTarget(target.boxes, ids[target.labels], mask)
        value = ids.astype(np.uint8)[target.value]
        return DenseTarget(np.where(target.valid, value, np.uint8(0)), target.valid, mask)


def _class_map(own: TaskSpec, wanted: TaskSpec) -> tuple[np.ndarray, int] | None:
    """Class ids of the data set -> wanted ones, int64, and their number; None where nothing
    changes.
    """
    if type(own.kind) is not type(wanted.kind):
        raise ValueError(
            f"task {wanted.name!r}: {wanted.kind.name} is wanted, the data has {own.kind.name}"
        )
    if own.classes == wanted.classes:
        return None
    if not set(own.classes) <= set(wanted.classes):
        raise ValueError(
            f"task {wanted.name!r}: the classes differ; wanted are [{', '.join(wanted.classes)}], "
            f"the data has [{', '.join(own.classes)}]"
        )
    ids = [wanted.classes.index(name) for name in own.classes]
    return np.array(ids, dtype=np.int64), wanted.num_classes


def match_model(
    dataset: MultiTaskDataset, model_tasks: Sequence[TaskSpec], names: Sequence[str] | None = None
) -> MatchedDataset:
    """A data set for the evaluation of a model: tasks are matched by name, classes by name within
    them.

    Depth and disparity keep the data set's range, and edges its tolerance.

    Args:
        dataset: what it reads from.
        model_tasks: tasks of the model.
        names: the tasks to keep; None for all that both have.

    Raises:
        ValueError: no common task, an asked task that one side lacks, or classes that the model
            lacks.
    """
    own = {spec.name: spec for spec in dataset.tasks}
    common = [spec for spec in model_tasks if spec.name in own]
    listed = f"the model has {[spec.name for spec in model_tasks]}, the data {list(own)}"
    if names is not None:
        shared = {spec.name for spec in common}
        lacking = [name for name in names if name not in shared]
        if lacking:
            raise ValueError(f"--tasks: {lacking} cannot be evaluated; {listed}")
        common = [spec for spec in common if spec.name in names]
    if not common:
        raise ValueError(f"model and data have no task in common; {listed}")
    return MatchedDataset(dataset, [(own[s.name], _measured(own[s.name], s)) for s in common])


def _measured(own: TaskSpec, wanted: TaskSpec) -> TaskSpec:
    """What is evaluated: the model's task, with the data set's options where the kind says so."""
    if type(own.kind) is type(wanted.kind) and own.kind.measured_by_data:
        return own
    return wanted

"""What makes the numbers of two groups hard to compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visionmtl.analysis.compare.groups import Group
from visionmtl.analysis.compare.reading import Run
from visionmtl.config.load import config_differences


def caveats(groups: Sequence[Group]) -> list[str]:
    """Sentences on other evaluation data, other numbers of epochs and hidden training; the first
    group is the rule.
    """
    first = groups[0]
    found = []
    for group in groups:
        differing: set[str] = set()
        for run in group.runs:
            differing.update(_data_differences(first.runs[0], run))
        if differing:
            listed = ", ".join(sorted(differing))
            found.append(
                f"{group.name} and {first.name} were evaluated on different data, not the same: "
                f"{listed}."
            )
        epochs = group.config.trainer.epochs
        usual = first.config.trainer.epochs
        if epochs != usual:
            found.append(f"{group.name} was trained for {epochs} epochs, {first.name} for {usual}.")
        if group.config.model.init_from:
            found.append(
                f"{group.name} starts from trained models, whose training time is not counted."
            )
    return found


def _data_differences(a: Run, b: Run) -> Iterator[str]:
    """What differs in the evaluation data of two runs: config keys, number of samples, tasks that
    both have.
    """
    for line in config_differences(a.config, b.config):
        key = line.partition(":")[0]
        if _is_evaluation(key):
            yield key
    if a.samples != b.samples:
        yield "number of samples"
    specs = {spec.name: spec for spec in a.tasks}
    for spec in b.tasks:
        if specs.get(spec.name, spec) != spec:
            yield f"task {spec.name}"


def _is_evaluation(key: str) -> bool:
    """Whether a config key changes what a run is evaluated on."""
    return key in ("data.type", "data.root", "data.size") or key.startswith(
        ("data.val", "data.transforms.val")
    )

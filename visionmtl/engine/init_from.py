"""Start the trunks of a network from trained ones."""

from __future__ import annotations

from collections.abc import Mapping

from visionmtl._faults import shown
from visionmtl._options import given_names
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import TaskSpec
from visionmtl.zoo.load import load_model


def init_from(model: MultiTaskModel, sources: Mapping[str, str]) -> None:
    """Copy backbone, decoder and head of a task from a trained model, as cross-stitch units and
    NDDR expect it.

    Args:
        model: of a sharing scheme with a trunk per task.
        sources: task -> what ``load_model`` takes: a network of that one task, or one with a trunk
            per task. Its task has the same name, or is its only one of the same kind, and the same
            classes or depth range.

    Raises:
        ValueError: no such task or model, no trunk of its own on either side, a task of another
            meaning, or parts of other shapes.
    """
    specs = {spec.name: spec for spec in model.tasks}
    for task, source in sources.items():
        key = f"model.init_from.{task}"
        if task not in specs:
            raise ValueError(f"{key}: unknown task; the model has {list(specs)}")
        try:
            own = model.sharing.trunk(task)  # first of all: a scheme without trunks needs no source
            other = load_model(source)
            name = _same_task(specs[task], other, source)
            trained = other.sharing.trunk(name)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        parts = (*own, model.heads[task])
        trained_parts = (*trained, other.heads[name])
        try:
            for part, trained_part in zip(parts, trained_parts, strict=True):
                part.load_state_dict(trained_part.state_dict())
        except RuntimeError as error:
            # load_state_dict lists every tensor; the parts say it shorter.
            what = f"{source} is {_describe(other)}; this model is {_describe(model)}"
            raise ValueError(f"{key}: {what}") from error


def _same_task(spec: TaskSpec, other: MultiTaskModel, source: str) -> str:
    """The name that the task has in ``other``."""
    kind = type(spec.kind)
    same_kind = {there.name: there for there in other.tasks if type(there.kind) is kind}
    if spec.name not in same_kind and len(same_kind) != 1:
        raise ValueError(f"{source} has no task {spec.name!r} of kind {spec.kind.name!r}")
    there = same_kind.get(spec.name) or next(iter(same_kind.values()))
    found = there.kind.facts()
    needed = spec.kind.facts()
    for fact in given_names(type(other.heads[there.name])):
        key = fact.replace("num_classes", "classes")  # the same number may be other classes
        if found.get(key) != needed.get(key):  # the head would mean something else
            what = f"has the {key} {shown(found[key])}, this model {shown(needed[key])}"
            raise ValueError(f"{source} {what}")
    return there.name


def _describe(model: MultiTaskModel) -> str:
    config = model.config
    channels = model.sharing.decoder_of(model.tasks[0].name).channels
    decoder = f"{config['decoder']} of {channels} channels"
    return f"{config['backbone']}, {decoder}, heads {config['heads']}"

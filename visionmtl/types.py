"""The types that travel between the rooms of the package.

Data flow: ``Sample`` (numpy, one image) -> ``Batch`` (tensors) -> ``Pyramid`` -> predictions by
task.

Shape letters: B batch, C channels, H W size, T tasks, K classes, N boxes, A anchor points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from visionmtl._registry import Registry

Pyramid = list[Tensor]
"""Feature maps (B, C, H / stride, W / stride), high to low resolution: c2..c5 or p2..p5 at strides
4, 8, 16, 32.
"""


class TaskKind(Protocol):
    """What networks, losses and metrics know of a kind of task; the kinds are in ``tasks``.

    Attributes:
        name: of the kind, such as ``depth``.
        head: name of the head that a task has unless another is chosen.
        loss: name of the loss that a task has unless another is chosen.
        metric: class of the metric.
    """

    @property
    def name(self) -> str: ...

    @property
    def head(self) -> str: ...

    @property
    def loss(self) -> str: ...

    @property
    def metric(self) -> Any: ...

    def describe(self) -> str:
        """What a task has of its own, in a few words."""

    def make_metric(self) -> Any:
        """The metric of a task."""

    def facts(self) -> dict[str, Any]:
        """What constructors of heads, losses and metrics may ask for: ``num_classes``, ..."""


KINDS: Registry[Any] = Registry("kind of task")
"""Filled by ``visionmtl.tasks`` and by plug-ins."""


class _ByKind(type):
    """Gives ``TaskSpec`` a constructor per kind: ``TaskSpec.depth(max_depth=80.0)``."""

    def __getattr__(cls, kind: str) -> Callable[..., TaskSpec]:
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise AttributeError(f"TaskSpec has no attribute and no kind {kind!r}; kinds: {known}")

        def make(*values: Any, name: str = kind, **options: Any) -> TaskSpec:
            return TaskSpec(name, KINDS[kind](*values, **options))

        return make


@dataclass(frozen=True)
class TaskSpec(metaclass=_ByKind):
    """What one task is: the contract between data set, head, loss and metric.

    ``TaskSpec.depth(max_depth=80.0)`` makes one of a registered kind with the options of the kind;
    its name is that of the kind unless ``name=`` says otherwise.

    Attributes:
        name: the key of the task in every dict of targets, predictions and losses.
        kind: the ``visionmtl.tasks.Kind`` that serves the task, with what only this kind has:
            classes, a largest depth, ... Networks, losses and metrics use ``TaskKind`` of it.

    Raises:
        ValueError: a name that is no identifier.
    """

    name: str
    kind: Any

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(
                f"task name {self.name!r} must be letters, digits and underscores, e.g. 'semseg'"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, their position is the class id; empty for kinds without classes."""
        return getattr(self.kind, "classes", ())

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; ``from_dict`` is the inverse."""
        options = asdict(self.kind)
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}
        return {"name": self.name, "kind": self.kind.name, **plain}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskSpec:
        """Inverse of ``to_dict``.

        Raises:
            ValueError: name or kind is missing or unknown, or an option that the kind refuses.
        """
        options = dict(values)
        if missing := [key for key in ("name", "kind") if key not in options]:
            raise ValueError(f"task {options}: missing keys {missing}")
        name = options.pop("name")
        try:
            return cls(name, KINDS.make(options.pop("kind"), {}, options))
        except ValueError as error:
            raise ValueError(f"task {name!r}: {error}") from None


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels of an image of ``width`` x ``height``; pixel centres lie at
    integer + 0.5.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


@dataclass
class DenseTarget:
    """Per-pixel truth of one sample.

    Attributes:
        value: semseg uint8 (H, W) class ids; saliency and edge uint8 (H, W), 0 or 1; depth float32
            (H, W) metres; disparity float32 (H, W); normals float32 (H, W, 3) unit vectors. Invalid
            pixels hold 0.
        valid: bool (H, W).
        known: bool (K,), the classes that the annotation speaks of (semseg); None for all.
    """

    value: np.ndarray
    valid: np.ndarray
    known: np.ndarray | None = None


@dataclass
class BoxTarget:
    """Boxes of one sample. An image without objects has zero boxes and is still annotated.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels.
        labels: int64 (N,), class ids.
        known: bool (K,), the classes that the annotation speaks of: objects of the others are not
            marked; None for all.
    """

    boxes: np.ndarray
    labels: np.ndarray
    known: np.ndarray | None = None


Target = DenseTarget | BoxTarget


@dataclass
class Sample:
    """One image and its truth. A task that is missing in ``targets`` is not annotated on this
    sample.
    """

    image: np.ndarray
    """uint8 (H, W, 3), RGB."""
    targets: dict[str, Target]
    sample_id: str
    camera: Camera | None = None


@runtime_checkable
class MultiTaskDataset(Protocol):
    """What every data set offers; ``tasks`` is ordered."""

    tasks: list[TaskSpec]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def sample_id(self, index: int) -> str: ...


@dataclass
class DenseTargets:
    """A batch of dense truth.

    Attributes:
        value: semseg, saliency, edge uint8 (B, H, W); depth, disparity float32 (B, 1, H, W);
            normals float32 (B, 3, H, W).
        valid: bool (B, H, W); all False where the sample is not annotated.
        annotated: bool (B,).
        known: bool (B, K), the classes that each annotation speaks of (semseg); None where all
            speak of all.
    """

    value: Tensor
    valid: Tensor
    annotated: Tensor
    known: Tensor | None = None


@dataclass
class BoxTargets:
    """A batch of boxes: per image float32 (N, 4) and int64 (N,).

    ``annotated`` is a list, it stays on the host; ``known`` is as in ``DenseTargets``.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    annotated: list[bool]
    known: Tensor | None = None


Targets = DenseTargets | BoxTargets


@dataclass
class Batch:
    """What a data loader yields. ``targets`` has every task of the run, in task order.

    Attributes:
        images: uint8 (B, 3, H, W), RGB.
        annotated: per task, on how many samples of the batch it is annotated, dense ones with a
            valid pixel at least (host integers).
    """

    images: Tensor
    targets: dict[str, Targets]
    sample_ids: list[str]
    annotated: dict[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; copies to CUDA are asynchronous where the memory is pinned."""
        asynchronous = (
            device.type == "cuda"
        )  # the other way, and from MPS, the values could be read before they arrive

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=asynchronous)
            if isinstance(value, list):
                return [move(v) for v in value]
            if isinstance(value, DenseTargets | BoxTargets):
                return type(value)(*(move(getattr(value, f.name)) for f in fields(value)))
            return value

        targets = {task: move(target) for task, target in self.targets.items()}
        return Batch(move(self.images), targets, self.sample_ids, self.annotated)

    def sample_target(self, spec: TaskSpec, index: int) -> Target | None:
        """The truth of one sample in the form that data sets give, or None where it is not
        annotated.
        """
        target = self.targets[spec.name]
        if not target.annotated[index]:
            return None
        known = None if target.known is None else target.known[index].cpu().numpy()
        if isinstance(target, BoxTargets):
            return BoxTarget(
                target.boxes[index].cpu().numpy(), target.labels[index].cpu().numpy(), known
            )
        value = target.value[index]
        if value.ndim == 3:
            value = value.squeeze(0) if len(value) == 1 else value.permute(1, 2, 0)
        return DenseTarget(value.cpu().numpy(), target.valid[index].cpu().numpy(), known)

    def pin_memory(self) -> Batch:
        """Called by the data loader when it pins memory."""
        self.images = self.images.pin_memory()
        for target in self.targets.values():
            if isinstance(target, DenseTargets):
                target.value, target.valid = target.value.pin_memory(), target.valid.pin_memory()
            if target.known is not None:
                target.known = target.known.pin_memory()
        return self


@dataclass
class DetectionOutput:
    """What the detection head gives, before decoding.

    Attributes:
        class_logits: (B, A, K), one sigmoid per class.
        distances: (B, A, 4), positive distances in pixels from each point to the left, top, right,
            bottom of its box.
        centerness: (B, A) logits.
        points: (A, 2), x y of the points in pixels of the input image.
        strides: (A,), stride of the level that each point belongs to.
        size: (H, W) of the input image.
    """

    class_logits: Tensor
    distances: Tensor
    centerness: Tensor
    points: Tensor
    strides: Tensor
    size: tuple[int, int]


@dataclass
class Detections:
    """Decoded boxes of one image, best first: boxes (N, 4) x1 y1 x2 y2 pixels, scores (N,) in 0..1,
    labels (N,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


Prediction = Tensor | DetectionOutput

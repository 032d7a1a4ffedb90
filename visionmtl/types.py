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
"""Feature maps (B, C, H / stride, W / stride), high to low resolution: c2..c5 or p2..p5.

Their strides are published by what gives them: 4, 8, 16, 32 unless it says otherwise.
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
        values = {"name": self.name, "kind": self.kind.name, **asdict(self.kind)}
        for key, value in values.items():
            if isinstance(value, tuple):
                values[key] = list(value)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskSpec:
        """Inverse of ``to_dict``.

        Raises:
            ValueError: name or kind is missing or unknown, or an option that the kind refuses.
        """
        options = dict(values)
        missing = [key for key in ("name", "kind") if key not in options]
        if missing:
            raise ValueError(f"task {options}: missing keys {missing}")
        name = options.pop("name")
        try:
            kind = KINDS.make(options.pop("kind"), {}, options)
        except ValueError as error:
            raise ValueError(f"task {name!r}: {error}") from None
        return cls(name, kind)


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics, in pixels of an image; pixel centres lie at integer + 0.5.

    Attributes:
        fx: focal length along x.
        fy: focal length along y.
        cx: x of the principal point.
        cy: y of the principal point.
        width: of the image.
        height: of the image.
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
    """One image and its truth.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        targets: by task; one that is missing is not annotated on this sample.
        sample_id: names the sample within its data set.
        camera: of the image, where it is known.
    """

    image: np.ndarray
    targets: dict[str, Target]
    sample_id: str
    camera: Camera | None = None


@runtime_checkable
class MultiTaskDataset(Protocol):
    """What every data set offers.

    Attributes:
        tasks: in their order.
    """

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
    """A batch of boxes.

    Attributes:
        boxes: per image float32 (N, 4), x1 y1 x2 y2 in pixels.
        labels: per image int64 (N,), class ids.
        annotated: per image; a list, it stays on the host.
        known: as in ``DenseTargets``.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    annotated: list[bool]
    known: Tensor | None = None


Targets = DenseTargets | BoxTargets


@dataclass
class Batch:
    """What a data loader yields.

    Attributes:
        images: uint8 (B, 3, H, W), RGB.
        targets: of every task of the run, in task order.
        sample_ids: of the images.
        annotated: per task, on how many samples of the batch it is annotated, dense ones with a
            valid pixel at least (host integers).
    """

    images: Tensor
    targets: dict[str, Targets]
    sample_ids: list[str]
    annotated: dict[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; copies to CUDA are asynchronous where the memory is pinned."""
        targets = {task: _moved(target, device) for task, target in self.targets.items()}
        return Batch(_moved(self.images, device), targets, self.sample_ids, self.annotated)

    def sample_target(self, spec: TaskSpec, index: int) -> Target | None:
        """The truth of one sample as data sets give it; None where it is not annotated."""
        target = self.targets[spec.name]
        if not target.annotated[index]:
            return None
        known = None
        if target.known is not None:
            known = target.known[index].cpu().numpy()
        if isinstance(target, BoxTargets):
            boxes = target.boxes[index].cpu().numpy()
            return BoxTarget(boxes, target.labels[index].cpu().numpy(), known)
        value = target.value[index]
        if value.ndim == 3 and len(value) == 1:
            value = value.squeeze(0)
        elif value.ndim == 3:
            value = value.permute(1, 2, 0)
        return DenseTarget(value.cpu().numpy(), target.valid[index].cpu().numpy(), known)

    def pin_memory(self) -> Batch:
        """Called by the data loader when it pins memory."""
        self.images = self.images.pin_memory()
        for target in self.targets.values():
            if isinstance(target, DenseTargets):
                target.value = target.value.pin_memory()
                target.valid = target.valid.pin_memory()
            if target.known is not None:
                target.known = target.known.pin_memory()
        return self


def _moved(value: Any, device: torch.device) -> Any:
    """A value, and all tensors in it, on ``device``."""
    if isinstance(value, Tensor):
        # The other way, and from MPS, values could be read before they arrive.
        return value.to(device, non_blocking=device.type == "cuda")
    if isinstance(value, list):
        return [_moved(v, device) for v in value]
    if isinstance(value, DenseTargets | BoxTargets):
        return type(value)(*(_moved(getattr(value, f.name), device) for f in fields(value)))
    return value


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
    """Decoded boxes of one image, best first.

    Attributes:
        boxes: (N, 4), x1 y1 x2 y2 in pixels.
        scores: (N,) in 0..1.
        labels: int64 (N,), class ids.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


Prediction = Tensor | DetectionOutput

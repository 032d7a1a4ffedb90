"""The types that travel between the rooms of the package.

Data flow: ``Sample`` (numpy, one image) -> ``Batch`` (tensors) -> ``Pyramid`` -> predictions by
task.

Shape letters: B batch, C channels, H W size, T tasks, K classes, N boxes, A anchor points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

KINDS = ("semseg", "depth", "normals", "detection", "disparity", "saliency", "edge")
"""What a task can be; ``visionmtl.tasks.TASKS`` has a row for each."""

DENSE: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "semseg": (np.uint8, ()),
    "saliency": (np.uint8, ()),
    "edge": (np.uint8, ()),
    "depth": (np.float32, (1,)),
    "disparity": (np.float32, (1,)),
    "normals": (np.float32, (3,)),
}
"""Kind with a value per pixel -> type and channels of ``DenseTargets.value``."""

_OF_KIND = {"depth": ("max_depth",), "disparity": ("max_disparity",), "edge": ("tolerance",)}
"""Kind -> the attributes of a task that only it has."""

Pyramid = list[Tensor]
"""Feature maps (B, C, H / stride, W / stride), high to low resolution: c2..c5 or p2..p5 at strides
4, 8, 16, 32.
"""


@dataclass(frozen=True)
class TaskSpec:
    """What one task is: the contract between data set, head, loss and metric.

    Build one with the constructors: ``semseg`` and those of the other kinds. Human parts are a
    ``semseg`` task too.

    Attributes:
        name: the key of the task in every dict of targets, predictions and losses.
        kind: the row of ``visionmtl.tasks.TASKS`` that serves it.
        classes: class names, their position is the class id (semseg and detection only).
        max_depth: metres; predictions are bounded by it and targets beyond it are invalid (depth
            only).
        max_disparity: the same for disparity, in the unit of the data set, pixels as a rule
            (disparity only).
        tolerance: how far off a predicted line may be, as a share of the image's diagonal (edge
            only).

    Raises:
        ValueError: unknown kind, missing, repeated or (semseg) over 256 classes, a largest value
            that is not positive.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()
    max_depth: float = 0.0
    max_disparity: float = 0.0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        classes: Any = self.classes
        if isinstance(classes, str) or not all(isinstance(c, str) for c in classes):
            raise ValueError(
                f"task {self.name!r}: classes must be a list of names, got {classes!r}"
            )
        object.__setattr__(self, "classes", tuple(classes))
        if not self.name.isidentifier():
            raise ValueError(
                f"task name {self.name!r} must be letters, digits and underscores, e.g. 'semseg'"
            )
        if self.kind not in KINDS:
            raise ValueError(
                f"task {self.name!r}: unknown kind {self.kind!r}; known: {', '.join(KINDS)}"
            )
        if self.kind in ("semseg", "detection"):
            if not self.classes:
                raise ValueError(f"task {self.name!r}: a {self.kind} task needs at least one class")
            if len(set(self.classes)) != len(self.classes):
                repeated = sorted({c for c in self.classes if self.classes.count(c) > 1})
                raise ValueError(f"task {self.name!r}: repeated classes {repeated}")
        if self.kind == "semseg" and len(self.classes) > 256:
            raise ValueError(
                f"task {self.name!r}: at most 256 classes, ids are 8-bit; got {len(self.classes)}"
            )
        if self.kind == "depth" and not 0 < self.max_depth < float("inf"):
            raise ValueError(
                f"task {self.name!r}: max_depth must be positive metres, got {self.max_depth}"
            )
        if self.kind == "disparity" and not 0 < self.max_disparity < float("inf"):
            raise ValueError(
                f"task {self.name!r}: max_disparity must be positive, got {self.max_disparity}"
            )
        if self.kind == "edge" and not 0 < self.tolerance < 1:
            raise ValueError(
                f"task {self.name!r}: tolerance must lie between 0 and 1, got {self.tolerance}"
            )

    @classmethod
    def semseg(cls, classes: list[str] | tuple[str, ...], name: str = "semseg") -> TaskSpec:
        """Semantic segmentation: one of ``classes`` per pixel."""
        return cls(name, "semseg", classes)  # type: ignore[arg-type]  # made a tuple, and a string refused, on construction

    @classmethod
    def depth(cls, max_depth: float = 10.0, name: str = "depth") -> TaskSpec:
        """Planar depth along the optical axis, in metres, bounded by ``max_depth``."""
        return cls(name, "depth", max_depth=float(max_depth))

    @classmethod
    def normals(cls, name: str = "normals") -> TaskSpec:
        """Surface normals: unit vectors in the camera frame (x right, y down, z forward), facing
        the camera.
        """
        return cls(name, "normals")

    @classmethod
    def detection(cls, classes: list[str] | tuple[str, ...], name: str = "detection") -> TaskSpec:
        """2-D object detection: axis-aligned boxes, one of ``classes`` each."""
        return cls(name, "detection", classes)  # type: ignore[arg-type]  # as in semseg

    @classmethod
    def disparity(cls, max_disparity: float, name: str = "disparity") -> TaskSpec:
        """Stereo disparity, proportional to the inverse of depth: larger is nearer, resizing an
        image leaves it.
        """
        return cls(name, "disparity", max_disparity=float(max_disparity))

    @classmethod
    def saliency(cls, name: str = "saliency") -> TaskSpec:
        """Whether a pixel belongs to what draws the eye: 0 or 1."""
        return cls(name, "saliency")

    @classmethod
    def edge(cls, tolerance: float = 0.0075, name: str = "edge") -> TaskSpec:
        """Whether a pixel lies on a boundary between regions: 0 or 1. Usual tolerances are 0.0075,
        on NYUv2 0.011.
        """
        return cls(name, "edge", tolerance=float(tolerance))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; ``from_dict`` is the inverse."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.classes:
            out["classes"] = list(self.classes)
        return out | {key: getattr(self, key) for key in _OF_KIND.get(self.kind, ())}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskSpec:
        """Inverse of ``to_dict``; raises ``ValueError`` for unknown keys and where name or kind is
        missing.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(str(key) for key in values if key not in known):
            raise ValueError(
                f"task {values.get('name')!r}: unknown keys {unknown}; known: {', '.join(known)}"
            )
        if missing := [key for key in ("name", "kind") if key not in values]:
            raise ValueError(f"task {dict(values)}: missing keys {missing}")
        return cls(**values)


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
            value = value.permute(1, 2, 0) if len(value) == 3 else value.squeeze(0)
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

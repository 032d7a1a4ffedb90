"""The one table of task kinds: what serves segmentation, depth, normals and detection. Adding a kind is one line."""

from __future__ import annotations

from dataclasses import dataclass

from visionmtl.models.heads.base import Head
from visionmtl.models.heads.depth import DepthHead
from visionmtl.models.heads.detection import DetectionHead
from visionmtl.models.heads.normals import NormalsHead
from visionmtl.models.heads.semseg import SemSegHead


@dataclass(frozen=True)
class TaskKind:
    """The parts that serve one kind of task."""

    head: type[Head]


TASKS: dict[str, TaskKind] = {
    "semseg": TaskKind(SemSegHead),
    "depth": TaskKind(DepthHead),
    "normals": TaskKind(NormalsHead),
    "detection": TaskKind(DetectionHead),
}

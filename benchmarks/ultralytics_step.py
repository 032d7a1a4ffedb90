"""A detector's training step and forward pass: visionmtl and Ultralytics.

Two detection networks of about equal cost (the multiply-adds are printed), one size, one batch of
random images and boxes, SGD, float32, no EMA. They are different networks with different losses:
this compares what a step costs, not what it learns.

Ultralytics is AGPL-3.0. It is imported here alone, at your choice; no part of visionmtl needs it.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Work, arguments, in_turn, report
from visionmtl import create_model
from visionmtl.losses import Criterion, build_loss
from visionmtl.tasks import TaskSpec
from visionmtl.types import Batch, BoxTargets

BATCH = 8
SIZE = 320
CLASSES = 8
BOXES = 4


class Ours:
    """An FPN with the FCOS head."""

    def __init__(
        self, backbone: str, device: torch.device, images: Tensor, boxes: Tensor, labels: Tensor
    ) -> None:
        spec = TaskSpec.detection([f"class {i}" for i in range(CLASSES)])
        model = create_model(backbone, [spec], decoder_options={"channels": 64})
        self.model = model.to(device)
        self.criterion = Criterion({spec.name: build_loss(spec)}).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        targets = BoxTargets(list(boxes), list(labels), [True] * BATCH)
        ids = [f"noise {i}" for i in range(BATCH)]
        self.batch = Batch(images, {spec.name: targets}, ids, {spec.name: BATCH}).to(device)

    def train(self) -> None:
        self.model.train()
        targets = self.criterion.prepare(self.batch)
        self.criterion(self.model(self.batch.images), targets).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def forward(self) -> object:
        return self.model.eval()(self.batch.images)


class Theirs:
    """A YOLO with the loss of its trainer."""

    def __init__(
        self, name: str, device: torch.device, images: Tensor, boxes: Tensor, labels: Tensor
    ) -> None:
        os.environ.setdefault("YOLO_OFFLINE", "true")
        from ultralytics.cfg import get_cfg
        from ultralytics.nn.tasks import DetectionModel

        self.model: Any = DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False).to(device)
        self.model.args = get_cfg()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        self.images = images.to(device)
        corners = boxes.flatten(0, 1)
        centres = (corners[:, :2] + corners[:, 2:]) / 2
        widths = corners[:, 2:] - corners[:, :2]
        self.targets = {
            "cls": labels.flatten()[:, None].float().to(device),
            "bboxes": (torch.cat([centres, widths], dim=1) / SIZE).to(device),
            "batch_idx": torch.arange(BATCH).repeat_interleave(BOXES).float().to(device),
        }

    def train(self) -> None:
        self.model.train()
        loss, _ = self.model({"img": self.images.float() / 255, **self.targets})
        loss.sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def forward(self) -> object:
        return self.model.eval()(self.images.float() / 255)


def main() -> None:
    options = arguments(__doc__ or "", rounds=20, backbone="tf_efficientnet_lite0", yolo="yolov8n")
    torch.manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
    starts = torch.rand(BATCH, BOXES, 2) * SIZE / 2
    boxes = torch.cat([starts, starts + 16 + torch.rand(BATCH, BOXES, 2) * SIZE / 3], dim=2)
    labels = torch.randint(0, CLASSES, (BATCH, BOXES))
    ours = Ours(options.backbone, options.device, images, boxes, labels)
    theirs = Theirs(options.yolo, options.device, images, boxes, labels)
    print(f"Ultralytics {version('ultralytics')}; batch {BATCH}, {SIZE} x {SIZE}")
    for name, side in ((options.backbone, ours), (options.yolo, theirs)):
        count = sum(p.numel() for p in side.model.parameters())
        print(f"{name}: {count / 1e6:.2f} M parameters, {_giga_macs(side.forward):.2f} GMACs")
    works: dict[str, dict[str, Work]] = {
        "training step": {"Ultralytics": theirs.train, "visionmtl": ours.train},
        "forward pass": {"Ultralytics": theirs.forward, "visionmtl": ours.forward},
    }
    for title, sides in works.items():
        print(title)
        report(in_turn(sides, options.device, options.rounds), "Ultralytics")


def _giga_macs(forward: Work) -> float:
    """Multiply-adds of a forward pass, of one image."""
    with FlopCounterMode(display=False) as counter:
        forward()
    flops: int = counter.get_total_flops()
    return flops / 2 / BATCH / 1e9


if __name__ == "__main__":
    main()

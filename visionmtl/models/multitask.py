"""The network: sharing scheme and heads, wired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl.models.heads.base import Head
from visionmtl.models.sharing.base import Sharing
from visionmtl.types import Prediction, Pyramid, TaskSpec


class MultiTaskModel(nn.Module):
    """One image in, one prediction per task out.

    Args:
        sharing: image -> pyramid per task.
        heads: task name -> head.
        tasks: what is predicted, in order.
        config: plain values from which ``create_model_from_config`` builds the same network.
        input_size: (height, width) of the images it was trained on; evaluation and prediction bring
            images to this scale. None leaves images as they are.

    Attributes:
        multiple: images are padded so that it divides H and W, as every stride does.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        sharing: Sharing,
        heads: Mapping[str, Head],
        tasks: Sequence[TaskSpec],
        config: dict[str, Any],
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.sharing = sharing
        self.heads = nn.ModuleDict({spec.name: heads[spec.name] for spec in tasks})
        self.config = config
        self.input_size = input_size
        self.multiple = sharing.multiple
        backbone = sharing.backbones[0]
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(3, 1, 1))

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Prediction]:
        """Predict.

        Args:
            images: (B, 3, H, W), RGB in 0..255, uint8 or float, any H and W.
            tasks: compute these only; None for all.

        Returns:
            In task order: semseg logits (B, K, H, W), depth (B, 1, H, W) metres, normals (B, 3, H,
            W) unit vectors, detection a ``DetectionOutput``, disparity (B, 1, H, W), saliency and
            edge logits (B, 1, H, W).
        """
        pyramids = self.features(images, tasks)
        return self.predict(pyramids, (images.shape[-2], images.shape[-1]))

    def features(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        """The first half of ``forward``: the pyramid that the head of each task reads."""
        self._check(images, tasks)
        pyramids: dict[str, Pyramid] = self.sharing(self.normalise(images), tasks)
        return pyramids

    def predict(
        self, pyramids: Mapping[str, Pyramid], size: tuple[int, int]
    ) -> dict[str, Prediction]:
        """The second half of ``forward``: the heads, at (H, W) of the images."""
        return {task: self.heads[task](pyramid, size) for task, pyramid in pyramids.items()}

    def normalise(self, images: Tensor) -> Tensor:
        """What ``sharing`` sees: standardised pixels, padded at the bottom right."""
        x = (images.float() - self.mean) / self.std
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))

    def _check(self, images: Tensor, tasks: Sequence[str] | None) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            shape = tuple(images.shape)
            raise ValueError(f"images must be (B, 3, H, W) RGB in 0..255, got shape {shape}")
        unknown = [task for task in tasks or () if task not in self.heads]
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; the model has {list(self.heads)}")

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that at least two task losses reach."""
        return self.sharing.shared_parameters()

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """Parameters that only the loss of ``task`` reaches: its head and its own of the trunk."""
        if task not in self.heads:
            raise ValueError(f"unknown task {task!r}; the model has {list(self.heads)}")
        shared = {id(p) for p in self.shared_parameters()}
        own = [p for p in self.sharing.parameters_reaching(task) if id(p) not in shared]
        return [*own, *self.heads[task].parameters()]

    def summary(self) -> str:
        """A few lines for people: parts, parameters shared and per task, strides."""
        names = self.config
        decoder = self.sharing.decoder_of(self.tasks[0].name)
        total = _millions(self.parameters())
        lines = [
            f"{names['backbone']} -> {names['decoder']} ({decoder.channels} channels) -> "
            f"{len(self.tasks)} heads, {names['sharing']} sharing: {total:.2f} M parameters"
        ]
        width = max(11, *(len(spec.name) for spec in self.tasks))
        lines.append(f"  {'shared':<{width}} {_millions(self.shared_parameters()):8.3f} M")
        for spec in self.tasks:
            own = _millions(self.task_parameters(spec.name))
            reads = f"reads strides {self.sharing.strides_of(spec.name)}"
            line = f"  {spec.name:<{width}} {own:8.3f} M  {reads}  {spec.kind.describe()}"
            lines.append(line.rstrip())
        return "\n".join(lines)


def _millions(parameters: Iterable[nn.Parameter]) -> float:
    return sum(p.numel() for p in parameters) / 1e6

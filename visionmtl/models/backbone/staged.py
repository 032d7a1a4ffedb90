"""Backbones that can be cut between stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from timm.models import FeatureListNet
from torch import Tensor, nn

from visionmtl.models.backbone.base import Backbone, strided_taps
from visionmtl.models.backbone.halves import Half, find_halves
from visionmtl.types import Pyramid


class _Stage(nn.Sequential):
    """The modules between two taps of a timm network; turns NHWC maps to NCHW at both ends."""

    def __init__(self, modules: Sequence[nn.Module], nhwc_in: bool, nhwc_out: bool) -> None:
        super().__init__(*modules)
        self.nhwc_in = nhwc_in
        self.nhwc_out = nhwc_out
        self.middle: Half | None = None
        self.kept: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.nhwc_in:
            x = x.permute(0, 2, 3, 1)
        for module in self:
            x = module(x)
        if self.nhwc_out:
            x = x.permute(0, 3, 1, 2).contiguous()
        return x

    def tap(self, middle: Half) -> None:
        """Keep the map after the first half in every ``forward_halves``."""
        self.middle = middle
        if middle.path:  # a path and a bound method: a copy of the stage looks at its own block
            self.get_submodule(middle.path).register_forward_hook(self._keep)

    def forward_halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map after the first half, and the output."""
        assert self.middle is not None, "tap first"
        kept: list[Tensor] = []
        self.kept = kept
        try:
            output = self(x)
        finally:
            self.kept = None  # also after an error no map outlives the call
        if not self.middle.path:
            return output, output
        return self.middle.to_nchw(kept[0], output), output

    def _keep(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.kept is not None:
            self.kept.append(output)


class StagedBackbone(Backbone):
    """A backbone that timm publishes as an ordered list of modules, cut into four stages."""

    stages: nn.ModuleList
    halves: Sequence[Half] = ()
    """Where each stage is halved, once ``tap_halves`` has been called."""

    def __init__(self, name: str, net: FeatureListNet, pretrained_cfg: dict[str, Any]) -> None:
        info = net.feature_info
        taps = strided_taps(name, info.reduction())
        channels = info.channels()
        super().__init__(name, [channels[tap] for tap in taps], pretrained_cfg)
        nhwc = net.output_fmt.value == "NHWC"
        self.stages = nn.ModuleList()
        for i, modules in enumerate(_modules_per_stage(net, taps)):
            self.stages.append(_Stage(modules, nhwc_in=nhwc and i > 0, nhwc_out=nhwc))

    def forward(self, x: Tensor) -> Pyramid:
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return pyramid

    def tap_halves(self) -> Sequence[Half]:
        """Find where each stage is halved, which makes ``forward_halves`` work.

        Nothing else changes.
        """
        if not self.halves:
            training = self.training
            self.halves = find_halves(self.eval().stages)
            self.train(training)
            for stage, half in zip(self._stages(), self.halves, strict=True):
                stage.tap(half)
        return self.halves

    def forward_halves(self, x: Tensor, num_stages: int = 4) -> list[tuple[Tensor, Tensor]]:
        """For the first stages, the map after the first half and the output (c2..c5).

        Both are NCHW and of one size.
        """
        pairs = []
        for stage in self._stages()[:num_stages]:
            half, x = stage.forward_halves(x)
            pairs.append((half, x))
        return pairs

    def _stages(self) -> list[_Stage]:
        return cast("list[_Stage]", list(self.stages))


def _modules_per_stage(net: FeatureListNet, taps: Sequence[int]) -> list[list[nn.Module]]:
    """The modules of a network up to each of its ``taps``; those after the last are left out."""
    ends = list(net.return_layers)
    stages: list[list[nn.Module]] = [[]]
    for name, module in net.items():
        stages[-1].append(module)
        if name == ends[taps[len(stages) - 1]]:
            if len(stages) == len(taps):
                break
            stages.append([])
    return stages

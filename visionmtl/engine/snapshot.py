"""Taking back a step."""

from __future__ import annotations

import copy

import torch

from visionmtl.engine.parts import TrainingParts


class Snapshot:
    """What a step changes before its gradient is known to be finite: batch norm, methods."""

    def __init__(self, parts: TrainingParts) -> None:
        self._parts = parts
        self._buffers = [buffer.clone() for buffer in parts.model.buffers()]
        self._weighting = copy.deepcopy(parts.weighting.state_dict())
        if parts.balance is not None:
            self._balance = copy.deepcopy(parts.balance.state_dict())

    @torch.no_grad()
    def restore(self) -> None:
        """Leave the step out as if its batches had not been seen."""
        for buffer, before in zip(self._parts.model.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        self._parts.weighting.load_state_dict(self._weighting)
        if self._parts.balance is not None:
            self._parts.balance.load_state_dict(self._balance)
        self._parts.optimizer.zero_grad()

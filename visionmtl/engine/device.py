"""The device that a program runs on."""

from __future__ import annotations

import torch


def pick_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: no device, or one that this machine does not have.
    """
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"--device: {name!r} is not a device; give auto, cpu, cuda:0 or mps"
        ) from None
    if not _is_present(device):
        raise ValueError(
            f"--device: {name!r} is not available on this machine; use --device cpu or auto"
        )
    return device


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _is_present(device: torch.device) -> bool:
    if device.type == "cuda":
        index = device.index or 0
        return torch.cuda.is_available() and index < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"

"""What a run depends on beside its config and data."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from visionmtl import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "albumentations",
    "numpy",
    "torchmetrics",
    "opencv-python-headless",
)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, commit and command, as plain values."""
    return {
        "visionmtl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: _version(package) for package in PACKAGES},
        "device": hardware(device),
        "commit": _commit(),
        "command": command(),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def hardware(device: torch.device) -> str:
    """The name of the GPU, or of the CPU with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def command() -> str:
    """The command line of this process, ready for a shell, with the interpreter as plain
    ``python``.
    """
    words = ["python", *sys.argv]
    script = Path(sys.argv[0])
    module = _module()
    if script.name == "visionmtl":
        words = [script.name, *sys.argv[1:]]
    elif module is not None:  # argv[0] is the path of the module then
        words = ["python", "-m", module, *sys.argv[1:]]
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if processes != "1" and words[0] == "python":
        words = ["torchrun", "--nproc-per-node", processes, *words[1:]]
    return shlex.join(words)


def _module() -> str | None:
    """The module of this package that was started by ``python -m``."""
    for option, module in pairwise(sys.orig_argv):
        if option == "-m" and module.partition(".")[0] == "visionmtl":
            return module
    return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree, where there is one; ``-dirty`` where files differ from it."""
    describe = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty",
    ]
    try:
        result = subprocess.run(describe, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None

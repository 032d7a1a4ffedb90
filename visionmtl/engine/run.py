"""A training run as a user sees it: its folder, what it records, and the model it leaves."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from visionmtl import __version__
from visionmtl.config import Config
from visionmtl.configfile import dump_config
from visionmtl.engine.card import model_card
from visionmtl.engine.checkpoint import load_checkpoint
from visionmtl.engine.errors import RunError, last_line
from visionmtl.engine.logging import json_safe
from visionmtl.engine.trainer import Trainer
from visionmtl.models.folder import save_model, write_atomic

RESUME_HINT = "give --resume auto to continue it, or another --output-dir"


def train(
    config: Config,
    name: str,
    *,
    output_dir: Path | None = None,
    resume: str | None = None,
    device: torch.device,
    limit_batches: int | None = None,
    console: Console,
) -> Path:
    """Train a config and leave a complete run folder.

    Args:
        config: the run.
        name: of the config; names the run folder.
        output_dir: the run folder itself; None makes ``<config.output_dir>/<name>-<time>``.
        resume: None, ``auto`` (the last checkpoint of the run folder, or a fresh start) or a checkpoint file.
        device: where to train.
        limit_batches: at most so many batches per epoch and evaluation.
        console: where to print.

    Returns:
        The run folder.
    """
    start = time.perf_counter()
    checkpoint = _find_checkpoint(config, name, output_dir, resume)
    if resume == "auto":
        console.print(f"resuming from {checkpoint}" if checkpoint else "no checkpoint to resume from: starting fresh")
    folder = checkpoint.parent.parent if checkpoint and output_dir is None else output_dir
    folder = _run_folder(config, name, folder, resuming=checkpoint is not None)
    trainer = Trainer(
        config, folder, device, resume=checkpoint, limit_batches=limit_batches, console=console
    )
    write_atomic(folder / "config.yaml", dump_config(config).encode())
    write_atomic(folder / "env.json", (json.dumps(environment(device), indent=2) + "\n").encode())
    console.print(trainer.model.summary(), highlight=False)
    console.print(f"run folder {folder}", highlight=False)
    try:
        trainer.fit()
    except (ValueError, OSError, RuntimeError) as error:
        raise RunError(last_line(error)) from error
    publish(trainer, folder, device, time.perf_counter() - start)
    console.print(f"done: the best model is in {folder / 'model'}", highlight=False)
    return folder


def publish(trainer: Trainer, folder: Path, device: torch.device, seconds: float) -> None:
    """Write the best weights of a finished run as a model folder."""
    best = load_checkpoint(folder / "checkpoints" / "best.pt")
    model = trainer.evaluated_model
    model.load_state_dict(best["ema"] or best["model"])
    record = {
        "metrics": json_safe(best["results"]),
        "data": trainer.config.data.type,
        "command": " ".join(["visionmtl", *sys.argv[1:]]),
        "hardware": environment(device)["device"],
        "training_minutes": round(seconds / 60, 1),
        "visionmtl_version": __version__,
    }
    save_model(model, folder / "model", model_card(model, trainer.config, record), extra={"record": record})


def environment(device: torch.device) -> dict[str, Any]:
    """What a run depends on beside its config: versions, device, commit, command."""
    packages = ("torch", "torchvision", "timm", "albumentations", "numpy", "torchmetrics", "opencv-python-headless")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return {
        "visionmtl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: metadata.version(package) for package in packages},
        "device": name,
        "commit": _commit(),
        "command": sys.argv,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the source tree, where there is one."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _find_checkpoint(config: Config, name: str, output_dir: Path | None, resume: str | None) -> Path | None:
    if resume is None:
        return None
    if resume != "auto":
        path = Path(resume)
        if not path.is_file():
            raise ValueError(f"--resume: no file {resume!r}; give a checkpoint (RUN/checkpoints/last.pt) or auto")
        return path
    if output_dir is not None:
        found = [output_dir / "checkpoints" / "last.pt"]
    else:
        found = sorted(Path(config.output_dir).glob(f"{name}-*/checkpoints/last.pt"), key=lambda p: p.stat().st_mtime)
    return found[-1] if found and found[-1].is_file() else None


def _run_folder(config: Config, name: str, folder: Path | None, resuming: bool) -> Path:
    if folder is None:
        return _fresh_folder(Path(config.output_dir) / f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output-dir: {str(folder)!r} is a file")
    if not resuming and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--output-dir: {str(folder)!r} is not empty; {RESUME_HINT}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".write").touch()
        (folder / ".write").unlink()
    except OSError as error:
        raise ValueError(f"--output-dir: {str(folder)!r} cannot be written ({error.strerror})") from error
    return folder


def _fresh_folder(path: Path) -> Path:
    """A folder that no other run has, also when two start in the same second."""
    for attempt in range(1000):
        candidate = path if attempt == 0 else path.with_name(f"{path.name}-{attempt + 1}")
        try:
            candidate.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            continue
        except OSError as error:
            raise ValueError(f"output_dir: {str(candidate)!r} cannot be made ({error.strerror})") from error
        return candidate
    raise ValueError(f"output_dir: {str(path)!r} and its next 999 names are taken")

"""A training run as a user sees it: its folder, what it records, and the model it leaves."""

from __future__ import annotations

import glob
import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from visionmtl import __version__
from visionmtl._console import say
from visionmtl._errors import RunError, last_line
from visionmtl._files import read_json, write_atomic
from visionmtl.config.load import dump_config
from visionmtl.config.schema import Config
from visionmtl.engine.distributed import World
from visionmtl.engine.environment import command, environment, hardware
from visionmtl.engine.logging import json_safe
from visionmtl.engine.trainer import Trainer
from visionmtl.zoo.card import model_card
from visionmtl.zoo.checkpoints import load_checkpoint
from visionmtl.zoo.folder import save_model

RESUME_HINT = "give --resume auto to continue it, or another --output-dir"
_STAMP = "[0-9]" * 8 + "-" + "[0-9]" * 6


def train(
    config: Config,
    name: str,
    *,
    output_dir: Path | None = None,
    resume: str | None = None,
    device: torch.device,
    limit_batches: int | None = None,
    console: Console,
    world: World | None = None,
) -> Path:
    """Train a config and leave a complete run folder.

    The folder holds ``config.yaml``, ``env.json`` (a list: one entry per start), ``metrics.jsonl``,
    ``metrics.csv``, ``checkpoints/``, ``pictures/``, ``tensorboard/`` and, in the end, ``model/``
    with the best weights.

    Args:
        config: the run.
        name: of the config; names the run folder.
        output_dir: the run folder itself; None makes ``<config.output_dir>/<name>-<time>``.
        resume: None, ``auto`` (the last checkpoint of the run folder, or a fresh start) or a
            checkpoint file. A checkpoint of another run folder is continued in ``output_dir``,
            where logs and best weights begin anew.
        device: where to train.
        limit_batches: at most so many batches per epoch and evaluation.
        console: where to print.
        world: the processes of the run; the main one writes the folder.

    Returns:
        The run folder.

    Raises:
        ValueError: a mistake of the user, found before the first step.
        RunError: the run failed.
        Interrupted: a signal came; the state is saved.
    """
    world = world or World()
    checkpoint = world.from_main(lambda: _find_checkpoint(config, name, output_dir, resume))
    if resume is not None:
        say(
            console,
            f"resuming from {checkpoint}"
            if checkpoint
            else "no checkpoint to resume from: starting fresh",
        )
    folder = world.from_main(lambda: _run_folder(config, name, output_dir, checkpoint))
    options: dict[str, Any] = {"limit_batches": limit_batches, "console": console, "world": world}
    try:
        trainer = Trainer(config, folder, device, resume=checkpoint, **options)
    except Exception:
        if output_dir is None and world.is_main:
            with suppress(OSError):  # the folder was made for nothing; one that is not empty stays
                folder.rmdir()
        raise
    try:
        if world.is_main:
            _describe(folder, config, device)
        say(console, trainer.model.summary())
        say(console, f"run folder {folder}")
        trainer.fit()
        if world.is_main:
            publish(trainer)
    except (ValueError, OSError, RuntimeError) as error:
        raise RunError(last_line(error)) from error
    say(console, f"done: the best model is in {folder / 'model'}")
    return folder


def publish(trainer: Trainer) -> None:
    """Write the best weights of a finished run as the model folder ``model``."""
    best = load_checkpoint(trainer.checkpoints / "best.pt")
    model = trainer.evaluated_model
    model.load_state_dict(best["ema"] or best["model"])
    record: dict[str, Any] = {
        "metrics": json_safe(best["results"]),
        "data": trainer.config.data.type,
        "command": command(),
        "hardware": (f"{trainer.world.size} x " if trainer.world.size > 1 else "")
        + hardware(trainer.device),
        "training_minutes": round(trainer.progress.seconds / 60, 1),
        "visionmtl_version": __version__,
    }
    card = model_card(model, trainer.config, record)
    save_model(model, trainer.folder / "model", card, extra={"record": record})


def _describe(folder: Path, config: Config, device: torch.device) -> None:
    """Write what is needed to repeat the run, before its first step."""
    write_atomic(folder / "config.yaml", dump_config(config).encode())
    path = folder / "env.json"
    starts = [*(read_json(path) if path.exists() else []), environment(device)]
    write_atomic(path, (json.dumps(starts, indent=2) + "\n").encode())


def _find_checkpoint(
    config: Config, name: str, output_dir: Path | None, resume: str | None
) -> Path | None:
    if resume is None:
        return None
    if resume != "auto":
        path = Path(resume)
        if not path.is_file():
            raise ValueError(
                f"--resume: no file {resume!r}; give a checkpoint (RUN/checkpoints/last.pt) or auto"
            )
        return path
    if output_dir is not None:
        found = [path for path in [output_dir / "checkpoints" / "last.pt"] if path.is_file()]
    else:  # the time in the name keeps out the runs of a config whose name only begins the same
        found = list(
            Path(config.output_dir).glob(f"{glob.escape(name)}-{_STAMP}*/checkpoints/last.pt")
        )
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _run_folder(config: Config, name: str, folder: Path | None, checkpoint: Path | None) -> Path:
    own = (
        checkpoint.resolve().parent.parent
        if checkpoint and checkpoint.resolve().parent.name == "checkpoints"
        else None
    )
    if folder is None and checkpoint is None:
        return _fresh_folder(Path(config.output_dir) / f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    if folder is None:
        if own is None:
            raise ValueError(
                f"--resume: {str(checkpoint)!r} lies in no run folder; say where to go on with --output-dir"
            )
        folder = own
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output-dir: {str(folder)!r} is a file")
    if folder.is_dir() and any(folder.iterdir()) and folder.resolve() != own:
        raise ValueError(f"--output-dir: {str(folder)!r} is not empty; {RESUME_HINT}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".write").touch()
        (folder / ".write").unlink()
    except OSError as error:
        raise ValueError(
            f"--output-dir: {str(folder)!r} cannot be written ({error.strerror})"
        ) from error
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
            raise ValueError(
                f"output_dir: {str(candidate)!r} cannot be made ({error.strerror})"
            ) from error
        return candidate
    raise ValueError(f"output_dir: {str(path)!r} and its next 999 names are taken")

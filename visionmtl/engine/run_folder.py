"""The folder of a run: a new one, or that of the checkpoint which is continued."""

from __future__ import annotations

import glob
import json
from datetime import datetime
from pathlib import Path

import torch

from visionmtl._files import read_json, write_atomic
from visionmtl.config.load import dump_config
from visionmtl.config.schema import Config
from visionmtl.engine.environment import environment

RESUME_HINT = "give --resume auto to continue it, or another --output-dir"
_STAMP = "[0-9]" * 8 + "-" + "[0-9]" * 6


def find_checkpoint(
    config: Config, name: str, output_dir: Path | None, resume: str | None
) -> Path | None:
    """The checkpoint that a run continues; None: it starts anew.

    Args:
        config: of the run.
        name: of the config.
        output_dir: the run folder, if it is given.
        resume: None, ``auto`` or a checkpoint file.

    Raises:
        ValueError: there is no such file.
    """
    if resume is None:
        return None
    if resume != "auto":
        path = Path(resume)
        if not path.is_file():
            what = "give a checkpoint (RUN/checkpoints/last.pt) or auto"
            raise ValueError(f"--resume: no file {resume!r}; {what}")
        return path
    if output_dir is not None:
        path = output_dir / "checkpoints" / "last.pt"
        if path.is_file():
            return path
        return None
    # The time in the name keeps out the runs of a config whose name only begins the same.
    pattern = f"{glob.escape(name)}-{_STAMP}*/checkpoints/last.pt"
    found = Path(config.output_dir).glob(pattern)
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def make_run_folder(
    config: Config, name: str, output_dir: Path | None, checkpoint: Path | None
) -> Path:
    """The folder of a run, which is there and can be written afterwards.

    Args:
        config: of the run.
        name: of the config; names a new folder.
        output_dir: the folder, if it is given.
        checkpoint: what the run continues, in its own folder unless ``output_dir`` is given.

    Raises:
        ValueError: a folder that cannot be written, or that has other content.
    """
    own = None
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        own = checkpoint.resolve().parent.parent
    if output_dir is None:
        if checkpoint is None:
            return _fresh_folder(Path(config.output_dir) / f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
        if own is None:
            what = "lies in no run folder; say where to go on with --output-dir"
            raise ValueError(f"--resume: {str(checkpoint)!r} {what}")
        output_dir = own
    shown = f"--output-dir: {str(output_dir)!r}"
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"{shown} is a file")
    if output_dir.is_dir() and any(output_dir.iterdir()) and output_dir.resolve() != own:
        raise ValueError(f"{shown} is not empty; {RESUME_HINT}")
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / ".write").touch()
        (output_dir / ".write").unlink()
    except OSError as error:
        raise ValueError(f"{shown} cannot be written ({error.strerror})") from error
    return output_dir


def describe_run(folder: Path, config: Config, device: torch.device) -> None:
    """Write what is needed to repeat a run: ``config.yaml``, and ``env.json`` with its starts."""
    write_atomic(folder / "config.yaml", dump_config(config).encode())
    path = folder / "env.json"
    starts = []
    if path.exists():
        starts = read_json(path)
    starts.append(environment(device))
    write_atomic(path, (json.dumps(starts, indent=2) + "\n").encode())


def _fresh_folder(path: Path) -> Path:
    """A folder that no other run has, also when two start in the same second."""
    names = [path.name, *(f"{path.name}-{attempt}" for attempt in range(2, 1001))]
    for name in names:
        candidate = path.with_name(name)
        try:
            candidate.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            continue
        except OSError as error:
            what = f"cannot be made ({error.strerror})"
            raise ValueError(f"output_dir: {str(candidate)!r} {what}") from error
        return candidate
    raise ValueError(f"output_dir: {str(path)!r} and its next 999 names are taken")

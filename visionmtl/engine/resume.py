"""Whether a checkpoint can be continued, and how an older one is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionmtl.config.load import config_differences, parse_config
from visionmtl.config.schema import Config
from visionmtl.engine.trainer import Trainer
from visionmtl.models.backbone.pretrained import one_line
from visionmtl.zoo.checkpoints import load_checkpoint

RESUMABLE = (
    "output_dir",
    "logging",
    "data.workers",
    "trainer.checkpoint_every",
    "trainer.epochs",
    "trainer.eval_batch_size",
    "trainer.nonfinite",
    "trainer.max_skipped",
)
"""Config keys that a resumed run may change: the steps that are done would have been the same.

Another ``trainer.epochs`` moves the end of the schedule: from the resumed step on, the learning
rate is that of a run which was started with the new number.
"""

_NEEDED = (
    "config",
    "data",
    "limit_batches",
    "model",
    "optimizer",
    "weighting",
    "balance",
    "window",
    "epoch_losses",
    "progress",
    "random_states",
    "callbacks",
)


def load_training_checkpoint(
    path: Path, config: Config, limit_batches: int | None, processes: int
) -> dict[str, Any]:
    """The content of a checkpoint from which a run of ``config`` goes on.

    Args:
        path: the checkpoint.
        config: of the run that goes on.
        limit_batches: its batches per epoch and evaluation.
        processes: how many it has.

    Raises:
        ValueError: it is damaged, no training checkpoint, or one of another run; names what
            differs.
    """
    saved = load_checkpoint(path)
    if saved["format_version"] == 1:
        _upgrade(saved)
    missing = [key for key in _NEEDED if key not in saved]
    if missing:
        raise ValueError(
            f"{path}: no training checkpoint of this version, it lacks {', '.join(missing)}"
        )
    before = parse_config(saved["config"], str(path))
    differences = config_differences(before, config, RESUMABLE)
    if differences:
        raise ValueError(
            f"{path}: made with another config; these keys differ: {'; '.join(differences)}"
        )
    processes_before = len(saved["random_states"])
    if processes_before != processes:
        what = f"made by {processes_before} processes, now {processes}"
        raise ValueError(f"{path}: {what}; the batches would be others")
    if saved["limit_batches"] != limit_batches:
        old = _limit_text(saved["limit_batches"])
        raise ValueError(f"{path}: made with {old}, now {_limit_text(limit_batches)}")
    progress = saved["progress"]
    started = progress["epoch"] + (progress["batch"] > 0)
    epochs = config.trainer.epochs
    if epochs < started:
        raise ValueError(
            f"trainer.epochs: {path} is in epoch {started} already, cannot stop after {epochs}"
        )
    return saved


def restore(trainer: Trainer, path: Path, saved: Mapping[str, Any], fingerprint: str) -> None:
    """Bring a trainer to the state of a checkpoint.

    Raises:
        ValueError: the checkpoint was made with other training data, or does not fit.
    """
    if saved["data"] != fingerprint:
        raise ValueError(f"{path}: made with other training data (sample ids or classes differ)")
    try:
        trainer.load_state_dict(saved)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        # Another timm, for example, may build another network.
        what = "does not fit this run, made with other versions?"
        raise ValueError(f"{path}: {what} {one_line(error)}") from error


def _upgrade(saved: dict[str, Any]) -> None:
    """Bring a checkpoint of format 1, which knew no callbacks, to the present form."""
    progress = saved.get("progress")
    if not isinstance(progress, dict):
        return
    sizes = progress.pop("log_sizes", {})
    callbacks: dict[str, Any] = {"Checkpoints": {"best_score": progress.pop("best_score")}}
    if "metrics.jsonl" in sizes:
        callbacks["MetricsLog"] = {"size": sizes["metrics.jsonl"]}
    if saved.get("ema") is not None:
        callbacks["EMA"] = {"model": saved["ema"]}
    saved["callbacks"] = callbacks


def _limit_text(limit_batches: int | None) -> str:
    if limit_batches is None:
        return "all batches"
    return f"--limit-batches {limit_batches}"

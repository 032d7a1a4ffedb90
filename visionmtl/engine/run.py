"""A training run as a user sees it: from a config to a folder with the model."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from visionmtl._console import say
from visionmtl._errors import RunError, last_line
from visionmtl.config.load import dump_config
from visionmtl.config.schema import Config
from visionmtl.engine.assemble import build_callbacks, build_loaders, build_training_parts
from visionmtl.engine.build import build_model
from visionmtl.engine.datasets import build_splits, data_notes, fingerprint
from visionmtl.engine.distributed import World
from visionmtl.engine.init_from import init_from
from visionmtl.engine.parts import TrainerOptions
from visionmtl.engine.resume import load_training_checkpoint, restore
from visionmtl.engine.run_folder import describe_run, find_checkpoint, make_run_folder
from visionmtl.engine.trainer import Trainer
from visionmtl.engine.training_record import training_record
from visionmtl.zoo.card import model_card
from visionmtl.zoo.checkpoints import load_checkpoint, remove_stray_files
from visionmtl.zoo.folder import save_model


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
    ``checkpoints/``, ``pictures/``, ``tensorboard/`` and, in the end, ``model/`` with the best
    weights.

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
    checkpoint = world.from_main(lambda: find_checkpoint(config, name, output_dir, resume))
    if checkpoint is not None:
        say(console, f"resuming from {checkpoint}")
    elif resume is not None:
        say(console, "no checkpoint to resume from: starting fresh")
    folder = world.from_main(lambda: make_run_folder(config, name, output_dir, checkpoint))
    try:
        trainer = build_trainer(
            config,
            folder,
            device,
            resume=checkpoint,
            limit_batches=limit_batches,
            console=console,
            world=world,
        )
    except Exception:
        if output_dir is None and world.is_main:
            with suppress(OSError):  # the folder was made for nothing; one that is not empty stays
                folder.rmdir()
        raise
    try:
        if world.is_main:
            describe_run(folder, config, device)
        say(console, trainer.model.summary())
        say(console, f"run folder {folder}")
        trainer.fit()
        if world.is_main:
            publish(trainer, config, folder)
    except (ValueError, OSError, RuntimeError) as error:
        raise RunError(last_line(error)) from error
    say(console, f"done: the best model is in {folder / 'model'}")
    return folder


def build_trainer(
    config: Config,
    folder: Path,
    device: torch.device,
    *,
    resume: Path | None = None,
    limit_batches: int | None = None,
    console: Console | None = None,
    world: World | None = None,
) -> Trainer:
    """The trainer of a config, with every callback that the config asks for.

    Args:
        config: the run.
        folder: of the run, exists.
        device: where to train.
        resume: a checkpoint of the same config to continue from, exactly.
        limit_batches: at most so many batches per epoch and evaluation.
        console: where to print.
        world: the processes of the run.

    Raises:
        ValueError: a config that does not fit the data, or a checkpoint of another config or data.
    """
    console = console or Console()
    world = world or World()
    saved: dict[str, Any] = {}
    if resume is not None:  # first of all: a changed config may fit neither data nor model
        saved = load_training_checkpoint(resume, config, limit_batches, world.size)
    train_set, val_set = build_splits(config)
    for note in data_notes(config, train_set, val_set):
        say(console, note, "yellow")
    loaders = build_loaders(config, train_set, val_set, device, world)
    options = TrainerOptions(
        epochs=config.trainer.epochs,
        accumulate=config.trainer.accumulate,
        clip_grad=config.trainer.clip_grad,
        eval_every=config.trainer.eval_every,
        log_every=config.logging.every,
        nonfinite=config.trainer.nonfinite,
        max_skipped=config.trainer.max_skipped,
        bf16=config.trainer.precision == "bf16",
        compile=config.trainer.compile,
        limit_batches=limit_batches,
        seed=config.seed,
    )
    # The processes differ: of dropout the samples of each need masks of their own.
    torch.manual_seed(config.seed + world.rank)
    model = build_model(config, train_set.tasks)
    if config.model.init_from and resume is None:
        init_from(model, config.model.init_from)
    model = model.to(device)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    steps_per_epoch = math.ceil(options.limited(loaders.train) / options.accumulate)
    parts = build_training_parts(config, model, steps_per_epoch, world)
    data = fingerprint(train_set)
    content = {"config": dump_config(config), "data": data, "limit_batches": limit_batches}
    callbacks = build_callbacks(config, folder, model, val_set, content, console, world)
    trainer = Trainer(parts, loaders, options, callbacks, device=device, world=world)
    if resume is not None:
        restore(trainer, resume, saved, data)
    if world.is_main:
        remove_stray_files(folder, folder / "checkpoints", folder / "model")
    return trainer


def publish(trainer: Trainer, config: Config, folder: Path) -> None:
    """Write the best weights of a finished run as the model folder ``model``."""
    best = load_checkpoint(folder / "checkpoints" / "best.pt")
    model = trainer.evaluated_model
    model.load_state_dict(best["ema"] or best["model"])
    record = training_record(trainer, config, best)
    save_model(model, folder / "model", model_card(model, record), extra={"record": asdict(record)})

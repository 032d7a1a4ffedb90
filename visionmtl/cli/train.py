"""``visionmtl train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from visionmtl.config.load import dump_config, load_config
from visionmtl.engine.device import pick_device
from visionmtl.engine.distributed import join_world
from visionmtl.engine.run import train


def run(arguments: argparse.Namespace) -> int:
    """Train the model of a config, or print the complete config."""
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        print(dump_config(config), end="")
        return 0
    with join_world(pick_device(arguments.device)) as (world, device):
        train(
            config,
            Path(arguments.config).stem,
            output_dir=arguments.output_dir,
            resume=arguments.resume,
            device=device,
            limit_batches=arguments.limit_batches,
            console=Console(quiet=not world.is_main),
            world=world,
        )
    return 0

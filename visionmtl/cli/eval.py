"""``visionmtl eval``."""

from __future__ import annotations

import argparse

from rich.console import Console

from visionmtl.analysis.evaluation import evaluate_model, evaluation_data
from visionmtl.engine.device import pick_device


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a model and print the table."""
    dataset = evaluation_data(arguments.model, arguments.config, arguments.data, arguments.split)
    evaluate_model(
        arguments.model,
        dataset,
        device=pick_device(arguments.device),
        tasks=arguments.tasks,
        json_path=arguments.json,
        size=arguments.size,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        console=Console(),
    )
    return 0

"""``visionmtl predict``."""

from __future__ import annotations

import argparse
import sys

from visionmtl.engine.device import pick_device
from visionmtl.prediction.files import predict_paths
from visionmtl.zoo.load import load_model


def run(arguments: argparse.Namespace) -> int:
    """Predict on every input; exit code 1 if one could not be read or written."""
    model = load_model(arguments.model)
    failures = predict_paths(
        model,
        arguments.inputs,
        arguments.output,
        device=pick_device(arguments.device),
        size=arguments.size,
        score_threshold=arguments.score_threshold,
    )
    print(f"results are in {arguments.output}")
    for path, reason in failures:
        print(f"visionmtl: not predicted: {path}: {reason}", file=sys.stderr)
    return int(bool(failures))

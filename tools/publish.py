"""Turn a finished run into a zoo entry: float16 weights, a card, validation metrics of what was
written.
"""

import argparse
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from visionmtl._files import read_json, validated, write_atomic
from visionmtl.analysis.evaluation import evaluate_model
from visionmtl.config.load import load_config
from visionmtl.engine.datasets import build_dataset
from visionmtl.engine.logging import json_safe
from visionmtl.zoo.card import TrainingRecord, model_card
from visionmtl.zoo.folder import load_model_folder, save_model
from visionmtl.zoo.registry import CHECKPOINTS, describe_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("name", help="name in the zoo")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--data", required=True, help="what it was trained on, in a few words")
    parser.add_argument(
        "--notes", type=Path, help="Markdown that the card ends with: what the model cannot do"
    )
    arguments = parser.parse_args()

    try:
        publish(arguments)
    except ValueError as error:
        sys.exit(f"publish: error: {error}")


def publish(arguments: argparse.Namespace) -> None:
    if not re.fullmatch("[a-z0-9][a-z0-9_.-]{0,79}", arguments.name):
        raise ValueError(
            f"the name must be small letters, digits, '_', '.' and '-', got {arguments.name!r}"
        )
    config = load_config(arguments.run / "config.yaml")
    folder = CHECKPOINTS / arguments.name
    path = arguments.run / "model" / "config.json"
    record = validated(TrainingRecord, read_json(path)["record"], path, "record")
    model = load_model_folder(arguments.run / "model")
    with TemporaryDirectory() as trial:
        save_model(model, Path(trial), dtype=torch.float16)
        results = evaluate_model(
            Path(trial), build_dataset(config, "val"), device=torch.device("cpu"), console=Console()
        )
    results = json_safe(results)
    record = replace(record, metrics=results)
    card = model_card(model, record)
    if arguments.notes:
        card += arguments.notes.read_text()
    save_model(model, folder, card, dtype=torch.float16, extra={"record": asdict(record)})

    metrics = {}
    for spec in model.tasks:
        key = spec.kind.metric.headline
        value = results[spec.name][key]
        if value is not None:
            metrics[f"{spec.name}/{key}"] = round(value, 3)
    registry = read_json(CHECKPOINTS / "registry.json")
    registry["models"][arguments.name] = {
        "source": arguments.name,
        "files": describe_files(folder),
        "tasks": [spec.name for spec in model.tasks],
        "metrics": metrics,
        "licence": arguments.licence,
        "data": arguments.data,
        "command": record.command,
    }
    write_atomic(CHECKPOINTS / "registry.json", (json.dumps(registry, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()

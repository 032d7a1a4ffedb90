"""What is in a network: its stages, what the sharing scheme attaches to them, what it costs, what
it has learned.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionmtl.models.multitask import MultiTaskModel

INPUT_SIZE = (240, 320)
"""Height and width of the image for which costs are told where neither model nor config names a
size.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visionmtl inspect``."""
    parser.add_argument(
        "source",
        metavar="CONFIG|MODEL",
        help="YAML file, or zoo name, run folder, model folder or checkpoint",
    )
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change the config")
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="image on which MTAN's masks are drawn"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="D",
        help="folder of the pictures (default for a MODEL: inspection/<its name>)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; draw what a trained model has learned, or where ``--output`` or ``--image``
    ask for it.

    Raises:
        ValueError: no such config or model, an image that cannot be read, an output that is no
            folder.
    """
    from rich.console import Console

    from visionmtl._console import say
    from visionmtl._images import read_image
    from visionmtl.analysis.inspect.costs import measure_costs
    from visionmtl.analysis.inspect.pictures import draw
    from visionmtl.analysis.inspect.report import costs_table, stages_table

    image = read_image(arguments.image) if arguments.image is not None else None
    source = Path(arguments.source)
    output: Path = arguments.output or Path("inspection") / _name(source)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {str(output)!r} is a file, not a folder")
    of_config = source.suffix in (".yaml", ".yml")
    model, size = (_from_config if of_config else _trained)(arguments.source, arguments.overrides)
    console = Console()
    say(console, model.summary().splitlines()[0])
    console.print(stages_table(model.sharing))
    with console.status("measuring"):
        costs = measure_costs(model, *size)
    console.print(costs_table(costs))
    if arguments.output or arguments.image or not of_config:
        paths, left_out = draw(model, output, image)
        for line in (*(f"wrote {path}" for path in paths), *left_out):
            say(console, line)
    return 0


def _name(source: Path) -> str:
    """Of the folder of pictures: a run's own, also where one of its checkpoints is given."""
    if source.suffix != ".pt":
        return source.stem if source.suffix in (".yaml", ".yml") else source.name
    run = source.resolve().parent
    return f"{run.parent.name}-{source.stem}" if run.name == "checkpoints" else source.stem


def _from_config(path: str, overrides: Sequence[str]) -> tuple[MultiTaskModel, tuple[int, int]]:
    """The network of a config, not trained, and its input size; of the data set only the tasks are
    read.
    """
    from visionmtl.analysis.inspect.costs import input_size
    from visionmtl.config.load import load_config
    from visionmtl.engine.build import build_model
    from visionmtl.engine.datasets import build_dataset

    config = load_config(path, overrides)
    config.model.backbone.pretrained = False  # weights change no shape and no count
    model = build_model(config, build_dataset(config, "train").tasks)
    return model.eval(), input_size(config) or INPUT_SIZE


def _trained(name: str, overrides: Sequence[str]) -> tuple[MultiTaskModel, tuple[int, int]]:
    from visionmtl.zoo.load import load_model

    if overrides:
        raise ValueError(
            f"{' '.join(overrides)}: only a config (*.yaml) can be changed, {name!r} is a model"
        )
    model = load_model(name)
    return model, model.input_size or INPUT_SIZE

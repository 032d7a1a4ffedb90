"""``visionmtl inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from visionmtl._console import say
from visionmtl._images import read_image
from visionmtl.analysis.inspect.costs import measure_costs
from visionmtl.analysis.inspect.network import Network, is_config, load_network, picture_folder
from visionmtl.analysis.inspect.pictures import draw
from visionmtl.analysis.inspect.report import costs_table, stages_table


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; draw what a trained model has learned, or where ``--output`` or ``--image``
    ask for it.

    Raises:
        ValueError: no such config or model, an image that cannot be read, an output that is no
            folder.
    """
    image = None
    if arguments.image is not None:
        image = read_image(arguments.image)
    output: Path = arguments.output or Path("inspection") / picture_folder(arguments.source)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {str(output)!r} is a file, not a folder")
    network = load_network(arguments.source, arguments.overrides)
    console = Console()
    _print_tables(network, console)
    if arguments.output or arguments.image or not is_config(arguments.source):
        paths, left_out = draw(network.model, output, image)
        for path in paths:
            say(console, f"wrote {path}")
        for reason in left_out:
            say(console, reason)
    return 0


def _print_tables(network: Network, console: Console) -> None:
    model = network.model
    say(console, model.summary().splitlines()[0])
    console.print(stages_table(model.sharing))
    with console.status("measuring"):
        costs = measure_costs(model, *network.input_size)
    console.print(costs_table(costs))

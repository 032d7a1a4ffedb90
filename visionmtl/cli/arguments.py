"""The commands and their arguments. Only ``argparse`` is needed here, so help is quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from visionmtl import __version__
from visionmtl.cli.options import (
    Parser,
    add_device,
    add_model,
    add_overrides,
    add_plugins,
    add_size,
    add_source,
    count,
    positive,
)


@dataclass(frozen=True)
class Command:
    """A command; its work is done by ``run`` in the module of its name in ``visionmtl.cli``.

    Attributes:
        summary: help text.
        add_arguments: declares the arguments.
    """

    summary: str
    add_arguments: Callable[[Parser], None]


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(prog="visionmtl", description="Multi-task learning for dense prediction.")
    parser.add_argument("--version", action="version", version=f"visionmtl {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.summary, description=command.summary)
        command.add_arguments(added)
        add_plugins(added)
        added.set_defaults(command=name, parser=added)
    return parser


def train(parser: Parser) -> None:
    """Arguments of ``visionmtl train``."""
    parser.add_argument("config", help="YAML file, see configs/")
    add_overrides(parser)
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="D",
        help="run folder (default: output_dir/<config>-<time>)",
    )
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="continue from the last checkpoint, or from this one"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the complete config and exit"
    )
    parser.add_argument(
        "--limit-batches",
        type=positive,
        metavar="N",
        help="at most so many batches per epoch and evaluation",
    )
    add_device(parser)


def evaluate(parser: Parser) -> None:
    """Arguments of ``visionmtl eval``."""
    parser.add_argument("config", nargs="?", help="YAML file whose validation split is evaluated")
    add_model(parser)
    parser.add_argument(
        "--data", metavar="ROOT", help="data set in a known packing, instead of a config"
    )
    parser.add_argument(
        "--split", default="val", metavar="S", help="split of --data (default: val)"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="evaluate these only (default: all that model and data share)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results to this file")
    add_size(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        metavar="N",
        help="default 1; more needs images of one size",
    )
    parser.add_argument(
        "--workers", type=count, default=0, metavar="N", help="loader processes (default: 0)"
    )
    add_device(parser)


def predict(parser: Parser) -> None:
    """Arguments of ``visionmtl predict``."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="images, folders, patterns such as '*.jpg', videos",
    )
    add_model(parser)
    parser.add_argument(
        "--output", required=True, type=Path, metavar="D", help="folder for the results"
    )
    add_size(parser)
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="leave out detections below it (default: 0.5)",
    )
    add_device(parser)


def check_data(parser: Parser) -> None:
    """Arguments of ``visionmtl check-data``."""
    add_source(parser)
    parser.add_argument(
        "--overview",
        type=Path,
        metavar="PNG",
        help="write a picture of a few samples per split, <name>_<split>.png",
    )


def convert_data(parser: Parser) -> None:
    """Arguments of ``visionmtl convert-data``."""
    add_source(parser)
    parser.add_argument("destination", type=Path, metavar="DST", help="folder to make")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="these only (default: all)")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="these only (default: all)")


def benchmark(parser: Parser) -> None:
    """Arguments of ``visionmtl benchmark``."""
    parser.add_argument("config", nargs="?", help="YAML file, see configs/")
    add_overrides(parser)
    parser.add_argument(
        "--only", metavar="A,B", help="measure these sections only, such as forward,sharing"
    )
    parser.add_argument(
        "--balancing",
        action="store_true",
        help="measure a training step under gradient balancing instead, on a network of its own, "
        "without a config",
    )
    parser.add_argument(
        "--repeats", type=int, default=11, help="timed repetitions of every number (default: 11)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results to this file")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0 or mps")


def compare(parser: Parser) -> None:
    """Arguments of ``visionmtl compare``."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs"
    )
    parser.add_argument(
        "--baseline",
        required=True,
        metavar="PATTERN",
        help="what the others are compared with: name of a group or of one of its run folders, "
        "* and ? allowed; single-task runs that cover all tasks together are one baseline",
    )
    parser.add_argument(
        "--output", type=Path, metavar="MD", help="write the tables to this file as Markdown"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers to this file")


def inspect(parser: Parser) -> None:
    """Arguments of ``visionmtl inspect``."""
    parser.add_argument(
        "source",
        metavar="CONFIG|MODEL",
        help="YAML file, or zoo name, run folder, model folder or checkpoint",
    )
    add_overrides(parser)
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="image on which MTAN's masks are drawn"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="D",
        help="folder of the pictures (default for a MODEL: inspection/<its name>)",
    )


def plot(parser: Parser) -> None:
    """Arguments of ``visionmtl plot``."""
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="run folder; the run may still be going on"
    )
    parser.add_argument(
        "--output", type=Path, metavar="PNG", help="the picture (default: RUN/plot.png)"
    )


def zoo(parser: Parser) -> None:
    """Arguments of ``visionmtl zoo``."""
    parser.add_argument("action", choices=["list", "show", "verify"], help="what to do")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="models; show needs one, verify takes all if none is given",
    )


COMMANDS = {
    "train": Command("Train the model that a config describes.", train),
    "eval": Command("Evaluate a model on a data set: a table, and JSON.", evaluate),
    "predict": Command("Predict every task on images and videos of your own.", predict),
    "check-data": Command(
        "Read a whole data set, report counts, ranges and every bad file; exit code 1 if there is "
        "any.",
        check_data,
    ),
    "convert-data": Command("Write any known data set in the folder format.", convert_data),
    "benchmark": Command(
        "Measure data, inference, training step and evaluation of a config.", benchmark
    ),
    "compare": Command(
        "Compare finished runs with a baseline, over seeds: did sharing or balancing help?", compare
    ),
    "inspect": Command(
        "Show what is in a network: stages, units, parameters, arithmetic, memory; draw what it "
        "learned to share.",
        inspect,
    ),
    "plot": Command(
        "Draw a run: losses, validation, weights, gradients and their conflicts over time.", plot
    ),
    "zoo": Command("List, show and verify the models of the zoo.", zoo),
}
"""Name on the command line -> command."""

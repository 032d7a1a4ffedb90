"""The command line:
``visionmtl train|eval|predict|check-data|convert-data|benchmark|compare|inspect|plot|zoo``.

The scripts in ``tools/`` are the same.

Exit codes: 0 done; 1 a run that failed, or data that is wrong; 2 a usage mistake; 128 + signal
after an interruption.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from visionmtl import __version__

if TYPE_CHECKING:
    import torch


class Parser(argparse.ArgumentParser):
    """Usage mistakes are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    parser = Parser(prog="visionmtl", description="Multi-task learning for dense prediction.")
    parser.add_argument("--version", action="version", version=f"visionmtl {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name, (add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_arguments(command)
        command.set_defaults(run=run, parser=command)
    arguments, rest = parser.parse_known_args(argv)
    misplaced = [
        item for item in rest if item.startswith("-") or not hasattr(arguments, "overrides")
    ]
    if misplaced:
        arguments.parser.error(f"unrecognized arguments: {' '.join(misplaced)}")
    if rest:  # argparse takes only one group of positionals: overrides may also stand after options
        arguments.overrides += rest
    _exit(arguments)


def _exit(arguments: argparse.Namespace) -> NoReturn:
    from visionmtl._errors import Interrupted, RunError, last_line

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        sys.exit(arguments.run(arguments))
    except Interrupted as stop:
        _complain(str(stop))
        sys.exit(stop.exit_code)
    except RunError as error:
        _complain(f"failed: {error}")
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a download that failed
        _complain(f"failed: {last_line(error)}")
        sys.exit(1)
    except ValueError as error:
        _complain(f"error: {last_line(error)}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(message: str) -> None:
    """A line on stderr, in one write: those of several processes must not mix."""
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    rank = f"[rank {os.environ.get('RANK')}] " if several else ""
    sys.stderr.write(f"{rank}visionmtl: {message}\n")


def pick_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: a device that this machine does not have.
    """
    import torch

    if name == "auto":
        name = (
            "cuda:0"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"--device: {name!r} is not a device; give auto, cpu, cuda:0 or mps"
        ) from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ValueError(
            f"--device: {name!r} is not available on this machine; use --device cpu or auto"
        )
    return device


def _count(text: str, least: int = 0) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
    return value


def _positive(text: str) -> int:
    return _count(text, least=1)


def _size(text: str) -> int | str:
    return text if text == "native" else _positive(text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda:0 or mps"
    )


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change the config")
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
        type=_positive,
        metavar="N",
        help="at most so many batches per epoch and evaluation",
    )
    _add_device(parser)


def train(arguments: argparse.Namespace) -> int:
    """Train the model that a config describes."""
    from visionmtl.config.load import dump_config, load_config

    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        print(dump_config(config), end="")
        return 0
    from rich.console import Console

    from visionmtl.engine import run
    from visionmtl.engine.distributed import join_world

    with join_world(pick_device(arguments.device)) as (world, device):
        run.train(
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


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", help="YAML file whose validation split is evaluated")
    parser.add_argument(
        "--model", required=True, help="zoo name, run folder, model folder or checkpoint"
    )
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
    parser.add_argument(
        "--size",
        type=_size,
        metavar="N",
        help="short side the network sees, or native (default: as trained)",
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=1,
        metavar="N",
        help="default 1; more needs images of one size",
    )
    parser.add_argument(
        "--workers", type=_count, default=0, metavar="N", help="loader processes (default: 0)"
    )
    _add_device(parser)


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a model on a data set: a table, and JSON."""
    from rich.console import Console

    from visionmtl.analysis.evaluation import evaluate_model, evaluation_data

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


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="images, folders, patterns such as '*.jpg', videos",
    )
    parser.add_argument(
        "--model", required=True, help="zoo name, run folder, model folder or checkpoint"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="D", help="folder for the results"
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="N",
        help="short side the network sees, or native (default: as trained)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="leave out detections below it (default: 0.5)",
    )
    _add_device(parser)


def predict(arguments: argparse.Namespace) -> int:
    """Predict every task on images and videos of your own."""
    from visionmtl.prediction.predict import predict_paths
    from visionmtl.zoo.load import load_model

    model = load_model(arguments.model)
    options = {"size": arguments.size, "score_threshold": arguments.score_threshold}
    failures = predict_paths(
        model, arguments.inputs, arguments.output, device=pick_device(arguments.device), **options
    )
    print(f"results are in {arguments.output}")
    for path, reason in failures:
        print(f"visionmtl: not predicted: {path}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="ROOT|CONFIG", help="a data set in a known packing, or a config"
    )
    parser.add_argument(
        "--overview",
        type=Path,
        metavar="PNG",
        help="write a picture of a few samples per split, <name>_<split>.png",
    )


def check_data(arguments: argparse.Namespace) -> int:
    """Read a whole data set, report counts, ranges and every bad file; exit code 1 if there is
    any.
    """
    from rich.console import Console

    from visionmtl._console import say
    from visionmtl.analysis.check import check_dataset, find_overlap, overview
    from visionmtl.data.folder import FolderDataset
    from visionmtl.data.sets.base import PackedDataset
    from visionmtl.engine.datasets import open_source

    console, wrong = Console(), False
    splits = open_source(arguments.source)
    for known in [split for split in splits.values() if isinstance(split, PackedDataset)][:1]:
        say(console, f"{known.root}: {known.title}, type {known.packing}")
    for name, dataset in splits.items():
        report = check_dataset(dataset)
        say(console, name, "bold")
        console.print(report.render(), crop=False)
        wrong |= not report.ok
        if arguments.overview is not None:
            path = arguments.overview.with_name(f"{arguments.overview.stem}_{name}.png")
            overview(dataset, path, report.examples)
            say(console, f"overview {path}")
    whole = [
        (name, split)
        for name, split in splits.items()
        if isinstance(split, FolderDataset | PackedDataset)
    ]
    for i, (first, a) in enumerate(whole):
        for second, b in whole[i + 1 :]:
            for sample, reason in find_overlap(a, b):
                say(console, f"{first} and {second} overlap: {sample}: {reason}", "red")
                wrong = True
    return int(wrong)


def _zoo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["list", "show", "verify"], help="what to do")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="models; show needs one, verify takes all if none is given",
    )


def zoo(arguments: argparse.Namespace) -> int:
    """List, show and verify the models of the zoo."""
    from rich.console import Console

    from visionmtl._console import say
    from visionmtl.zoo.load import zoo_list, zoo_show, zoo_verify

    console = Console()
    if arguments.action == "list":
        console.print(zoo_list())
        return 0
    if arguments.action == "show":
        if len(arguments.names) != 1:
            raise ValueError("zoo show: give one name, see visionmtl zoo list")
        console.print(zoo_show(arguments.names[0]))
        return 0
    checked = zoo_verify(arguments.names)
    for name, problem in checked:
        say(console, f"{name}: {problem or 'verified'}")
    return int(any(problem for _, problem in checked))


Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]


def _of(module: str, summary: str) -> Command:
    """The command of a module that has ``add_arguments`` and ``run`` of its own."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        import_module(module).add_arguments(parser)

    def run(arguments: argparse.Namespace) -> int:
        code: int = import_module(module).run(arguments)
        return code

    run.__doc__ = summary
    return add_arguments, run


COMMANDS: dict[str, Command] = {
    "train": (_train_arguments, train),
    "eval": (_eval_arguments, evaluate),
    "predict": (_predict_arguments, predict),
    "check-data": (_check_arguments, check_data),
    "convert-data": _of("visionmtl.data.convert", "Write any known data set in the folder format."),
    "benchmark": _of(
        "visionmtl.analysis.benchmark",
        "Measure data, inference, training step and evaluation of a config.",
    ),
    "compare": _of(
        "visionmtl.analysis.compare",
        "Compare finished runs with a baseline, over seeds: did sharing or balancing help?",
    ),
    "inspect": _of(
        "visionmtl.analysis.inspect",
        "Show what is in a network: stages, units, parameters, arithmetic, memory; draw what it learned to share.",
    ),
    "plot": _of(
        "visionmtl.analysis.plot",
        "Draw a run: losses, validation, weights, gradients and their conflicts over time.",
    ),
    "zoo": (_zoo_arguments, zoo),
}


if __name__ == "__main__":
    main()

"""Options that several commands share, and what their values may be."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Usage mistakes are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def add_overrides(parser: Parser) -> None:
    """Changes of the config, ``key.sub=value``."""
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change the config")


def add_device(parser: Parser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda:0 or mps"
    )


def add_model(parser: Parser) -> None:
    """``--model``."""
    parser.add_argument(
        "--model", required=True, help="zoo name, run folder, model folder or checkpoint"
    )


def add_plugins(parser: Parser) -> None:
    """``--plugin``, which every command has."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        dest="plugins",
        metavar="FILE",
        help="Python file that registers parts of your own; may be given several times",
    )


def add_size(parser: Parser) -> None:
    """``--size``."""
    parser.add_argument(
        "--size",
        type=size,
        metavar="N",
        help="short side the network sees, or native (default: as trained)",
    )


def add_source(parser: Parser) -> None:
    """A data set, or a config."""
    parser.add_argument(
        "source", metavar="ROOT|CONFIG", help="a data set in a known packing, or a config"
    )


def count(text: str, least: int = 0) -> int:
    """A whole number that is not too small."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return count(text, least=1)


def size(text: str) -> int | str:
    """A number of pixels, or ``native``."""
    if text == "native":
        return text
    return positive(text)

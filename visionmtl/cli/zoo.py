"""``visionmtl zoo``."""

from __future__ import annotations

import argparse

from rich.console import Console

from visionmtl._console import say
from visionmtl.zoo.show import zoo_list, zoo_show, zoo_verify


def run(arguments: argparse.Namespace) -> int:
    """List, show or verify models; exit code 1 if one is not what it must be.

    Raises:
        ValueError: no such model.
    """
    console = Console()
    if arguments.action == "list":
        console.print(zoo_list())
        return 0
    if arguments.action == "show":
        if len(arguments.names) != 1:
            raise ValueError("zoo show: give one name, see visionmtl zoo list")
        console.print(zoo_show(arguments.names[0]))
        return 0
    code = 0
    for name, problem in zoo_verify(arguments.names):
        say(console, f"{name}: {problem or 'verified'}")
        if problem is not None:
            code = 1
    return code

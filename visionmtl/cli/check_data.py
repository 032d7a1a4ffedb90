"""``visionmtl check-data``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from rich.console import Console

from visionmtl._console import say
from visionmtl.analysis.check import check_dataset, find_overlap, overview
from visionmtl.data.folder import FolderDataset
from visionmtl.data.sets.base import PackedDataset
from visionmtl.engine.datasets import open_source
from visionmtl.types import MultiTaskDataset


def run(arguments: argparse.Namespace) -> int:
    """Print a report on every split; exit code 1 if a sample is bad or two splits overlap."""
    console = Console()
    splits = open_source(arguments.source)
    _say_packing(splits, console)
    good = [
        _check_split(name, dataset, arguments.overview, console) for name, dataset in splits.items()
    ]
    apart = _check_overlap(splits, console)
    return int(not (all(good) and apart))


def _say_packing(splits: Mapping[str, MultiTaskDataset], console: Console) -> None:
    for dataset in splits.values():
        if isinstance(dataset, PackedDataset):
            say(console, f"{dataset.root}: {dataset.title}, type {dataset.packing}")
            return


def _check_split(
    name: str, dataset: MultiTaskDataset, picture: Path | None, console: Console
) -> bool:
    """Whether every sample can be used; prints the report, draws the overview."""
    report = check_dataset(dataset)
    say(console, name, "bold")
    console.print(report.render(), crop=False)
    if picture is not None:
        path = picture.with_name(f"{picture.stem}_{name}.png")
        overview(dataset, path, report.examples)
        say(console, f"overview {path}")
    return report.ok


def _check_overlap(splits: Mapping[str, MultiTaskDataset], console: Console) -> bool:
    """Whether no two splits share a sample; prints those that they share."""
    apart = True
    for (first, a), (second, b) in combinations(splits.items(), 2):
        if not isinstance(a, FolderDataset | PackedDataset):
            continue
        if not isinstance(b, FolderDataset | PackedDataset):
            continue
        for sample, reason in find_overlap(a, b):
            say(console, f"{first} and {second} overlap: {sample}: {reason}", "red")
            apart = False
    return apart

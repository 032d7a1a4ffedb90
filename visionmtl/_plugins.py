"""Code of users that registers heads, losses, data sets, kinds of task ... of their own.

It is found by an entry point of the group ``visionmtl.plugins``, whose value is a module, or named
on the command line (``--plugin FILE.py``). A config, a checkpoint or a zoo entry never names code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

GROUP = "visionmtl.plugins"


def load_plugins(files: Sequence[str] = ()) -> None:
    """Import the plug-ins of installed packages and the given files; a second time does nothing.

    The folder of a file comes on ``sys.path`` and its module has the name of the file, so that
    worker processes can import it, too.

    Raises:
        ValueError: one line that names a plug-in which is missing or broken.
    """
    for point in entry_points(group=GROUP):
        _run(f"plug-in {point.name} = {point.value}", point.load)
    for file in files:
        _load_file(Path(file))


def _load_file(path: Path) -> None:
    what = f"--plugin {path}"
    if not path.is_file():
        raise ValueError(f"{what}: no such file")
    path = path.resolve()
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise ValueError(f"{what}: must be a Python file NAME.py, NAME of letters, digits and _")
    loaded = sys.modules.get(name)
    if loaded is not None and _file_of(loaded) == path:
        return
    if loaded is not None or _other_module(name, path):
        raise ValueError(f"{what}: there is a module {name!r} already; give the file another name")
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        _run(what, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    except ValueError:
        del sys.modules[name]
        raise


def _run(what: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except Exception as error:  # other people's code may raise anything
        lines = str(error).splitlines() or [""]
        raise ValueError(f"{what}: cannot be loaded: {type(error).__name__}: {lines[0]}") from error


def _other_module(name: str, path: Path) -> bool:
    """Whether an import of ``name`` gives another file; that of an earlier plug-in's folder may be
    this one.
    """
    found = find_spec(name)
    if found is None:
        return False
    return found.origin is None or Path(found.origin).resolve() != path


def _file_of(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    return Path(file).resolve()

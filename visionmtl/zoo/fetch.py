"""The files of a published model on this machine.

Files that come from the network are checked before they get their name, so no half file is ever
visible; files that are on the disk are checked each time they are used.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

import huggingface_hub

from visionmtl._files import FileEntry
from visionmtl.zoo.download import download, is_safe
from visionmtl.zoo.registry import CHECKPOINTS, HUB, ModelEntry


def fetch(entry: ModelEntry, cache_dir: Path | None = None) -> Path:
    """The folder of a model with every file present and of the right sha256; downloads what is
    missing.

    Safe when several processes call it at once.

    Args:
        entry: of ``read_registry``.
        cache_dir: default ``$VISIONMTL_HOME``, else ``~/.cache/visionmtl``; hub files use the hub's
            own cache then.

    Raises:
        ValueError: a file of the package, or one that was just downloaded, is not the expected one.
        OSError: it cannot be downloaded, or the cache cannot be written.
    """
    folders = {fetch_file(entry, name, cache_dir).parent for name in entry.files}
    if len(folders) > 1:
        raise ValueError(
            f"{entry.source}: changed while it was downloaded; try again, or name a revision"
        )
    return folders.pop()


def fetch_file(entry: ModelEntry, name: str, cache_dir: Path | None = None) -> Path:
    """One verified file of a model, wherever its source is; see ``fetch``."""
    expected = entry.files[name]
    hub = HUB.fullmatch(entry.source)
    if hub:
        return _from_hub(hub, name, expected, cache_dir)
    if not is_safe(entry.source):
        return _from_package(entry.source, name, expected)
    path = _cache_folder(entry, cache_dir) / name
    if expected.fault(path):
        download(f"{entry.source.rstrip('/')}/{quote(name)}", path, expected)
    return path


def _cache_folder(entry: ModelEntry, cache_dir: Path | None) -> Path:
    """The folder of a model; of other files under the same name, as a registry of another version
    may list them, it is another one.
    """
    home = os.environ.get("VISIONMTL_HOME") or "~/.cache/visionmtl"
    root = cache_dir or Path(home).expanduser()
    listing = "".join(f"{file} {entry.files[file].sha256}\n" for file in sorted(entry.files))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return root / "models" / f"{entry.name}-{digest[:12]}"


def _from_package(folder: str, name: str, expected: FileEntry) -> Path:
    path = CHECKPOINTS / folder / name
    fault = expected.fault(path)
    if fault:
        raise ValueError(f"{path}: {fault}; install visionmtl again")
    return path


def _from_hub(
    source: re.Match[str], name: str, expected: FileEntry, cache_dir: Path | None
) -> Path:
    fault: str | None = None
    for force in (False, True):  # a damaged file would stay in the hub's cache for ever
        try:
            path = huggingface_hub.hf_hub_download(
                repo_id=source["repo"],
                filename=name,
                subfolder=source["subfolder"],
                revision=source["revision"],
                cache_dir=cache_dir,
                force_download=force,
            )
        except Exception as error:  # the errors of whatever HTTP library the client uses
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise OSError(f"{source[0]}/{name}: {lines[0]}") from error
        fault = expected.fault(Path(path))
        if fault is None:
            return Path(path)
    raise ValueError(f"{source[0]}/{name}: {fault}")

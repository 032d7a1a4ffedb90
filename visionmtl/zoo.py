"""The model zoo: names of published models, and the way from a name or a path to a loaded model.

``checkpoints/registry.json`` lists for every model where its files are, how long they are and their sha256. Files that
come from the network are checked before they get their name, so no half file is ever visible; files that are on the
disk are checked each time they are used.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from visionmtl import __version__
from visionmtl.models.folder import CARD, CONFIG, WEIGHTS, load_model_folder, read_json, restore_model

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from visionmtl.models.multitask import MultiTaskModel

CHECKPOINTS = Path(__file__).parent / "checkpoints"
REGISTRY_VERSION = 1
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"  # of a path or a hub name: no separator, no '..', no leading dot or dash
_LOCAL = re.compile(rf"{_PART}(/{_PART})*")
_HUB = re.compile(rf"hf://(?P<repo>{_PART}/{_PART})(@(?P<revision>{_PART}))?(/(?P<subfolder>{_PART}(/{_PART})*))?")
_TIMEOUT = 30.0  # seconds without a byte
_ABANDONED = 2 * _TIMEOUT  # a partial file that was not written for so long has no owner any more
_SHOW_PROGRESS = 8 << 20  # from so many bytes on


@dataclass(frozen=True)
class FileEntry:
    """What a file must be: lower-case hexadecimal sha256, and size in bytes."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: as given to ``load_model``.
        source: a folder relative to ``visionmtl/checkpoints``, the ``https://`` address of a folder, or
            ``hf://owner/repo[@revision][/subfolder]``.
        files: file name -> what it must be; has the weights, the config and the card at least.
        tasks: task names, in order.
        metrics: for example ``{"semseg/miou": 0.41}``.
        licence: of the weights.
        data: what the model was trained on.
        command: what trained it.
    """

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]{0,79}$")]
    source: str
    files: Mapping[Annotated[str, Field(pattern=f"^{_PART}$")], FileEntry]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: Mapping[str, float]
    licence: str
    data: str
    command: str
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        web = _is_safe(source) and not set(source) & set("?#")
        if not (web or _HUB.fullmatch(source) or _LOCAL.fullmatch(source)):
            raise ValueError("must be a folder of the package, https://... or hf://owner/repo[@revision][/subfolder]")
        return source

    @field_validator("files")
    @classmethod
    def _whole_folder(cls, files: Mapping[str, FileEntry]) -> Mapping[str, FileEntry]:
        if missing := sorted({WEIGHTS, CONFIG, CARD} - set(files)):
            raise ValueError(f"lacks {', '.join(missing)}")
        return files


def read_registry(path: Path | None = None) -> dict[str, ModelEntry]:
    """All models of a registry file (default: the package's own), by name.

    Raises:
        ValueError: one line with the file, the key and what is wrong.
    """
    path = path or CHECKPOINTS / "registry.json"
    registry = read_json(path)
    if not isinstance(registry, dict) or not isinstance(registry.get("models"), dict):
        raise ValueError(f"{path}: must be an object with 'format_version' and 'models'")
    if registry.get("format_version") != REGISTRY_VERSION:
        raise ValueError(f"{path}: format_version {registry.get('format_version')!r}, expected {REGISTRY_VERSION}")
    entries = {}
    for name, values in registry["models"].items():
        if not isinstance(values, dict) or "name" in values:
            raise ValueError(f"{path}: models.{name} must be an object, without a 'name' of its own")
        try:
            entries[name] = TypeAdapter(ModelEntry).validate_json(json.dumps({"name": name, **values}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["models", name, *map(str, first["loc"])])
            raise ValueError(f"{path}: {key}: {first['msg']}, got {first['input']!r:.80}") from error
    return entries


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """The ``files`` of a registry entry for a model folder: name -> sha256 and size."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: {"sha256": _sha256(path), "size": path.stat().st_size} for path in paths}


def list_models() -> list[str]:
    """Names of the zoo, sorted."""
    return sorted(read_registry())


def load_model(name_or_path: str | Path) -> MultiTaskModel:
    """A trained model, float32, in eval mode, on the CPU.

    Args:
        name_or_path: a name of the zoo, a model folder, a run folder or a training checkpoint ``*.pt``. A name of the
            zoo wins over a folder of the same name, unless it is given as a ``Path``. Checkpoints are read with
            ``weights_only=True``, so nothing in them is executed; their EMA weights are preferred.

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
    """The folder of a model with every file present and of the right sha256; downloads what is missing.

    Safe when several processes call it at once. An interrupted download is resumed by the next call.

    Args:
        entry: of ``read_registry``.
        cache_dir: default ``$VISIONMTL_HOME``, else ``~/.cache/visionmtl``; hub files use the hub's own cache then.

    Raises:
        ValueError: a file of the package, or one that was just downloaded, is not the expected one.
        OSError: it cannot be downloaded, or the cache cannot be written.
    """
    folders = {_fetch_file(entry, file, cache_dir).parent for file in entry.files}
    if len(folders) > 1:
        raise ValueError(f"{entry.source}: changed while it was downloaded; try again, or name a revision")
    return folders.pop()


def zoo_list() -> Table:
    """One row per model: name, tasks, size, metrics, licence."""
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "tasks", "MB", "metrics", "licence")
    for name, entry in sorted(read_registry().items()):
        size = sum(file.size for file in entry.files.values()) / 1e6
        cells = (name, " ".join(entry.tasks), f"{size:.1f}", _metrics(entry), entry.licence)
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
        value = {"tasks": " ".join(entry.tasks), "metrics": _metrics(entry)}.get(key) or getattr(entry, key)
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
        raise ValueError(f"{entry.name}: the registry lists the tasks {entry.tasks}, the model has {tasks}")
    return model


def _load_checkpoint(path: Path) -> MultiTaskModel:
    from visionmtl.engine.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    config, tasks = checkpoint.get("model_config"), checkpoint.get("tasks")
    state = checkpoint.get("ema") or checkpoint.get("model")
    if not (isinstance(config, Mapping) and isinstance(tasks, list) and isinstance(state, Mapping)):
        raise ValueError(f"{path}: not a training checkpoint: it needs 'model_config', 'tasks' and 'model' or 'ema'")
    return restore_model(config, tasks, state, path)


def _known(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}zoo: {', '.join(sorted(names)) or '(empty)'}"


def _metrics(entry: ModelEntry) -> str:
    return "  ".join(f"{key} {value:.4g}" for key, value in entry.metrics.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, expected: FileEntry) -> str | None:
    """What is wrong with a file on the disk, or None."""
    if not path.is_file():
        return "no such file"
    if (size := path.stat().st_size) != expected.size:
        return f"{size} bytes, expected {expected.size}"
    return None if _sha256(path) == expected.sha256 else "damaged: wrong sha256"


def _fetch_file(entry: ModelEntry, name: str, cache_dir: Path | None) -> Path:
    """One verified file of a model, wherever its source is."""
    expected = entry.files[name]
    if match := _HUB.fullmatch(entry.source):
        return _from_hub(match, name, expected, cache_dir)
    if not _is_safe(entry.source):
        path = CHECKPOINTS / entry.source / name
        if problem := _problem(path, expected):
            raise ValueError(f"{path}: {problem}; install visionmtl again")
        return path
    root = cache_dir or Path(os.environ.get("VISIONMTL_HOME") or Path.home() / ".cache" / "visionmtl").expanduser()
    # A registry of another version may list other files under the same name: they get a folder of their own.
    listing = "".join(f"{file} {entry.files[file].sha256}\n" for file in sorted(entry.files))
    folder = root / "models" / f"{entry.name}-{hashlib.sha256(listing.encode()).hexdigest()[:12]}"
    if _problem(folder / name, expected):
        _download(f"{entry.source.rstrip('/')}/{quote(name)}", folder / name, expected)
    return folder / name


def _from_hub(source: re.Match[str], name: str, expected: FileEntry, cache_dir: Path | None) -> Path:
    from huggingface_hub import hf_hub_download

    place = {"repo_id": source["repo"], "subfolder": source["subfolder"], "revision": source["revision"]}
    download = partial(hf_hub_download, filename=name, cache_dir=cache_dir, **place)
    for force in (False, True):  # a second time, because a damaged file in the hub's cache would stay there
        try:
            path = download(force_download=force)
        except Exception as error:  # the hub's client raises the errors of whatever HTTP library it uses
            reason = str(error).strip().splitlines()
            raise OSError(f"{source[0]}/{name}: {reason[0] if reason else type(error).__name__}") from error
        if not (problem := _problem(Path(path), expected)):
            return Path(path)
    raise ValueError(f"{source[0]}/{name}: {problem}")


def _download(url: str, path: Path, expected: FileEntry) -> None:
    """Download into a hidden file beside ``path``; it gets its name when size and sha256 are right."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _adopt_part(path, part)
        file = part.open("ab")
    except OSError as error:
        reason = f"cannot write to the cache {path.parent} ({error.strerror})"
        raise OSError(f"{reason}: set VISIONMTL_HOME to a folder that can be written") from error
    try:
        with file:
            _receive(url, file, expected.size)
            os.fsync(file.fileno())
        if problem := _problem(part, expected):
            part.unlink()
            raise ValueError(f"{url}: {problem}; nothing was kept")
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        with suppress(FileNotFoundError):  # an unfinished file is left to the next call
            os.utime(part, (0, 0))


def _adopt_part(path: Path, part: Path) -> None:
    """Rename what an interrupted download of ``path`` left to ``part``."""
    for old in path.parent.glob(f".{path.name}.*.part"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - old.stat().st_mtime > _ABANDONED:
                os.utime(old)  # first: under its new name nobody may take it for abandoned
                old.replace(part)


def _receive(url: str, file: IO[bytes], size: int) -> None:
    """Append the body of ``url`` to ``file`` until it has ``size`` bytes; asks only for what it lacks."""
    from rich.console import Console
    from rich.progress import Progress

    start = file.tell()
    if start == size:
        return
    headers = {"User-Agent": f"visionmtl/{__version__}"}
    if 0 < start < size:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.headers.get_content_type() == "text/html":
            raise OSError("the server sent an HTML page instead of the file")
        if response.status != 206:  # the whole file, from its beginning
            start = 0
            file.truncate(0)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part of the file than was asked for")
        if response.length is not None and start + response.length != size:
            raise OSError(f"the server announces {start + response.length} bytes, expected {size}")
        with Progress(console=Console(stderr=True), transient=True, disable=size < _SHOW_PROGRESS) as progress:
            bar = progress.add_task(url.rpartition("/")[2], total=size)
            while chunk := response.read1(1 << 20):
                start += len(chunk)
                if start > size:
                    raise OSError(f"the server sends more than the expected {size} bytes")
                file.write(chunk)
                file.flush()  # its time stamp tells other processes that it is in use
                progress.update(bar, completed=start)
    if start < size:
        raise OSError(f"the connection ended after {start} of {size} bytes")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https only; a loopback server may redirect to itself."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not _is_safe(newurl) or (req.type, urlsplit(newurl).scheme) == ("https", "http"):
            raise OSError(f"refused a redirect to {newurl}: not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_safe(url: str) -> bool:
    """Whether a URL is https, or http on this machine."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))

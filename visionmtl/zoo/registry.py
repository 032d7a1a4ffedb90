"""The list of published models: for each where its files are, what they must be, and what the model
is good for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from visionmtl._files import FileEntry, read_json, validated
from visionmtl.zoo.download import is_safe
from visionmtl.zoo.folder import CARD, CONFIG, WEIGHTS

CHECKPOINTS = Path(__file__).parent / "models"
"""Where ``registry.json`` and the models that come with the package are."""
REGISTRY_VERSION = 1
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
"""Of a path or a hub name: no separator, no '..', no leading dot or dash."""
_LOCAL = re.compile(rf"{_PART}(/{_PART})*")
HUB = re.compile(
    rf"hf://(?P<repo>{_PART}/{_PART})(@(?P<revision>{_PART}))?"
    rf"(/(?P<subfolder>{_PART}(/{_PART})*))?"
)
"""A source on the Hugging Face hub."""


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: as given to ``load_model``.
        source: a folder relative to ``visionmtl/zoo/models``, the ``https://`` address of a folder,
            or ``hf://owner/repo[@revision][/subfolder]``.
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
        web = is_safe(source) and not set(source) & set("?#")
        if not (web or HUB.fullmatch(source) or _LOCAL.fullmatch(source)):
            raise ValueError(
                "must be a folder of the package, https://... or "
                "hf://owner/repo[@revision][/subfolder]"
            )
        return source

    @field_validator("files")
    @classmethod
    def _whole_folder(cls, files: Mapping[str, FileEntry]) -> Mapping[str, FileEntry]:
        missing = sorted({WEIGHTS, CONFIG, CARD} - set(files))
        if missing:
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
    version = registry.get("format_version")
    if version != REGISTRY_VERSION:
        raise ValueError(f"{path}: format_version {version!r}, expected {REGISTRY_VERSION}")
    entries = {}
    for name, values in registry["models"].items():
        if not isinstance(values, dict) or "name" in values:
            raise ValueError(
                f"{path}: models.{name} must be an object, without a 'name' of its own"
            )
        document = json.dumps({"name": name, **values}).encode()
        entries[name] = validated(ModelEntry, document, path, f"models.{name}")
    return entries


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """The ``files`` of a registry entry for a model folder: name -> sha256 and size."""
    paths = sorted(
        path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith(".")
    )
    return {path.name: asdict(FileEntry.of(path)) for path in paths}

"""Write the tables of docs/configuration.md from the code: ``python tools/make_reference.py``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``. Its keys, defaults and ranges
come from the schema of the config and the constructors of the registered classes; its descriptions
from the fields and from the ``Args:`` of the docstrings. With ``--print`` the page is printed.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from visionmtl._options import Sides, Within, options_model
from visionmtl._registry import Registry
from visionmtl.balancing import BALANCERS
from visionmtl.config.data import DataConfig, MixtureData, RunData, SetConfig, TransformsConfig
from visionmtl.config.schema import (
    BackboneConfig,
    BalancingConfig,
    Config,
    LoggingConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainerConfig,
)
from visionmtl.config.sections import Section
from visionmtl.data.base import DATASETS
from visionmtl.data.transforms.base import AUGMENTATIONS
from visionmtl.losses import LOSSES
from visionmtl.models.decoders import DECODERS
from visionmtl.models.heads import HEADS
from visionmtl.models.sharing import SHARING
from visionmtl.types import KINDS
from visionmtl.weighting import WEIGHTINGS

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_TABLE = re.compile(r"(<!-- table (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEADER = "| key | default | range | meaning |\n|---|---|---|---|"


def written(page: str) -> str:
    """The page with its tables made anew."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match['name']]()}\n\n{match[3]}", page)


def keys(section: type[BaseModel], prefix: str, *names: str) -> list[str]:
    """A row for each key of a section, or for the named ones."""
    fields = section.model_fields
    chosen = names or tuple(fields)
    return [_row(f"{prefix}{name}", fields[name]) for name in chosen]


def choices(registry: Registry[Any]) -> str:
    """A row for each class of a registry; of a method, what its file says, too."""
    rows = ["| type | meaning and options |", "|---|---|"]
    for name, cls in sorted(registry.items()):
        what = f"{_prefix_of(cls)}{_first_paragraph(cls)}"
        if registry is WEIGHTINGS or registry is BALANCERS:
            what = f"{_first_paragraph(sys.modules[cls.__module__])}<br>{what}"
        rows.append(f"| `{name}` | {'<br>'.join([what, *_options(cls)])} |")
    return "\n".join(rows)


def table(*rows: list[str]) -> str:
    """Rows of keys under their header."""
    return "\n".join([_HEADER, *(line for part in rows for line in part)])


def _sections() -> str:
    """The top level of a config."""
    return table(keys(Config, ""))


def _data() -> str:
    flat = RunData.flat_model(DATASETS["folder"])
    left_out = {"transforms", *options_model(DATASETS["folder"]).model_fields}
    own = [name for name in flat.model_fields if name not in left_out]
    return table(keys(flat, "data.", *own), keys(TransformsConfig, "data.transforms."))


def _splits() -> str:
    rows = []
    for name, cls in DATASETS.items():
        for role, kind in getattr(cls, "split_types", {}).items():
            described = _arguments(kind)
            for key, field in options_model(kind).model_fields.items():
                text = f"type `{name}`: {described.get(key, '')}"
                rows.append(_row(f"data.{role}.{key}", field, text))
    return table(rows)


def _mixture() -> str:
    own = [name for name in SetConfig.model_fields if name not in DataConfig.model_fields]
    return table(keys(MixtureData, "data."), keys(SetConfig, "data.sets.", *own))


def _model() -> str:
    own = [name for name in ModelConfig.model_fields if name != "backbone"]
    return table(keys(BackboneConfig, "model.backbone."), keys(ModelConfig, "model.", *own))


TABLES: dict[str, Callable[[], str]] = {
    "sections": _sections,
    "data": _data,
    "datasets": lambda: choices(DATASETS),
    "splits": _splits,
    "mixture": _mixture,
    "augmentations": lambda: choices(AUGMENTATIONS),
    "model": _model,
    "decoders": lambda: choices(DECODERS),
    "sharing": lambda: choices(SHARING),
    "heads": lambda: choices(HEADS),
    "losses": lambda: choices(LOSSES),
    "weightings": lambda: choices(WEIGHTINGS),
    "balancing": lambda: table(keys(BalancingConfig, "balancing.", "type", "scope", "every")),
    "balancers": lambda: choices(BALANCERS),
    "optimizer": lambda: table(
        keys(OptimizerConfig, "optimizer."), keys(ScheduleConfig, "schedule.")
    ),
    "trainer": lambda: table(keys(TrainerConfig, "trainer.")),
    "logging": lambda: table(keys(LoggingConfig, "logging.")),
}


def _row(key: str, field: FieldInfo, meaning: str | None = None) -> str:
    text = field.description or "" if meaning is None else meaning
    return f"| `{key}` | {_default(field)} | {_range(field.annotation, field.metadata)} | {text} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Section):
        return ""  # its keys have defaults of their own
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, float) and 0 < value < 0.01:
        return f"{value:f}".rstrip("0")
    listed = list(value) if isinstance(value, tuple) else value
    return json.dumps(listed, default=str).replace('"', "")


def _range(annotation: Any, metadata: list[Any]) -> str:
    """Which values a key takes."""
    for item in metadata:
        if isinstance(item, Sides):
            return f"[height, width], {item.low} .. {item.high} each"
        if isinstance(item, Within):
            return f"[lo, hi] within {item.low:g} .. {item.high:g}"
    origin = get_origin(annotation)
    arguments = [part for part in get_args(annotation) if part is not NoneType]
    if origin is Literal:
        return ", ".join(f"`{name}`" for name in arguments)
    if origin in (dict, Mapping):
        value = _range(arguments[1], [])
        return f"task: {value}" if value else "by task"
    if annotation is bool:
        return "true, false"
    if hasattr(annotation, "__metadata__"):
        inner = get_args(annotation)[0]
        return _range(inner, [*_expanded(annotation.__metadata__), *metadata])
    bounds = _bounds(metadata)
    if bounds or len(arguments) != 1:
        return bounds
    return _range(arguments[0], [])  # of a list, or where null may stand


def _expanded(metadata: tuple[Any, ...]) -> list[Any]:
    """Bounds that stand in a field."""
    items: list[Any] = []
    for item in metadata:
        items += item.metadata if isinstance(item, FieldInfo) else [item]
    return items


def _bounds(metadata: list[Any]) -> str:
    bounds: dict[str, str] = {}
    for item in metadata:
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if hasattr(item, name):
                bounds[sign] = f"{getattr(item, name):.10g}"
    if set(bounds) == {">=", "<="}:
        return f"{bounds['>=']} .. {bounds['<=']}"
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds.items())


def _options(cls: type) -> list[str]:
    """A line for each option of a class."""
    described = _arguments(cls)
    lines = []
    for name, field in options_model(cls).model_fields.items():
        value = "required" if field.is_required() else _default(field)
        bounds = _range(field.annotation, field.metadata)
        line = f"`{name}`: {value} ({bounds})" if bounds else f"`{name}`: {value}"
        text = described.get(name)
        lines.append(f"{line}; {text}" if text else line)
    return lines


def _prefix_of(cls: type) -> str:
    """The kinds of task that a head or loss is for; the title of a data set."""
    named = list(getattr(cls, "kinds", ()))
    for name, kind in KINDS.items():
        is_default = cls in (HEADS.get(kind.head), LOSSES.get(kind.loss))
        if is_default and name not in named:
            named.append(name)
    title = getattr(cls, "title", None)
    if title:
        named.append(title)
    return f"{', '.join(named)}: " if named else ""


def _first_paragraph(documented: Any) -> str:
    return _one_line(inspect.cleandoc(documented.__doc__ or "").split("\n\n")[0])


def _arguments(cls: type) -> dict[str, str]:
    """Argument -> its description in the Google docstrings of a class and its bases, and of
    ``build``.
    """
    found: dict[str, str] = {}
    documented = [*reversed(cls.__mro__), getattr(cls, "build", None)]
    for item in documented:
        text = inspect.cleandoc(getattr(item, "__doc__", None) or "")
        section = re.search(r"^Args:\n((?: .*\n?|\n)*)", text, re.MULTILINE)
        if section is not None:
            entry = r"^ {4}(\w+): ((?:.*\n?)(?: {6,}.*\n?)*)"
            entries = re.findall(entry, section[1], re.MULTILINE)
            found |= {name: _one_line(description) for name, description in entries}
    return found


def _one_line(text: str) -> str:
    """Plain Markdown in one line: no pipes, one kind of quotes."""
    joined = " ".join(text.split()).removesuffix(".")
    return re.sub(r"\bNone\b", "null", joined).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    new = written(PAGE.read_text("utf-8"))
    if sys.argv[1:] == ["--print"]:
        print(new, end="")
    else:
        PAGE.write_text(new, "utf-8")

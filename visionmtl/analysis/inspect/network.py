"""The network that is inspected: of a config, or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionmtl.analysis.inspect.costs import input_size
from visionmtl.config.load import load_config
from visionmtl.engine.build import build_model
from visionmtl.engine.datasets import build_dataset
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.zoo.load import load_model

INPUT_SIZE = (240, 320)
"""Height and width of the image for which costs are told where neither model nor config names a
size.
"""


@dataclass(frozen=True)
class Network:
    """A network to inspect.

    Attributes:
        model: in evaluation mode.
        input_size: height and width of the image for which costs are told.
    """

    model: MultiTaskModel
    input_size: tuple[int, int]


def load_network(source: str, overrides: Sequence[str]) -> Network:
    """The network of a config, not trained, with the config changed by ``overrides``; or a model.

    Of the data set of a config only the tasks are read.

    Raises:
        ValueError: no such config or model, or overrides of a model.
    """
    if is_config(source):
        config = load_config(source, overrides)
        config.model.backbone.pretrained = False  # weights change no shape and no count
        model = build_model(config, build_dataset(config, "train").tasks)
        return Network(model.eval(), input_size(config) or INPUT_SIZE)
    if overrides:
        raise ValueError(
            f"{' '.join(overrides)}: only a config (*.yaml) can be changed, {source!r} is a model"
        )
    model = load_model(source)
    return Network(model, model.input_size or INPUT_SIZE)


def is_config(source: str) -> bool:
    """Whether a source is a config; anything else is a model."""
    return Path(source).suffix in (".yaml", ".yml")


def picture_folder(source: str) -> str:
    """Name of the folder of pictures; of a checkpoint of a run it begins with the run's name."""
    path = Path(source)
    if is_config(source):
        return path.stem
    if path.suffix != ".pt":
        return path.name
    folder = path.resolve().parent
    if folder.name == "checkpoints":
        return f"{folder.parent.name}-{path.stem}"
    return path.stem

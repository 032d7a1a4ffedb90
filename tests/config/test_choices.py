"""A class that is registered can be chosen; nothing in ``config`` is edited for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from torch import nn

from visionmtl._options import Fraction, Positive
from visionmtl._registry import Registry
from visionmtl._yaml import ConfigError
from visionmtl.balancing import BALANCERS
from visionmtl.config.data import RunData
from visionmtl.config.load import dump_config, parse_config
from visionmtl.config.schema import Config
from visionmtl.data.base import DATASETS
from visionmtl.data.transforms.base import AUGMENTATIONS
from visionmtl.losses import LOSSES
from visionmtl.models.decoders import DECODERS
from visionmtl.models.heads import HEADS
from visionmtl.models.sharing import SHARING
from visionmtl.types import KINDS
from visionmtl.weighting import WEIGHTINGS

BASE = "data: {type: rooms}\nmodel: {backbone: {name: resnet18}}\n"


class Part(nn.Module):
    """Anything with an option."""

    def __init__(self, in_channels: Any = None, *, depth: Positive = 2.0) -> None:
        super().__init__()


@dataclass(frozen=True)
class Kind:
    """A kind of task whose head and loss are new, too."""

    head: ClassVar[str] = "new"
    loss: ClassVar[str] = "new"
    name: ClassVar[str] = "new"


class Files:
    """A data set with files that may be cached."""

    def __init__(
        self, root: str, split: str, tasks: Sequence[str] | None = None, *, noise: Fraction = 0.0
    ) -> None: ...

    def stamp(self) -> str:
        return ""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Registry[Any]] = [BALANCERS, AUGMENTATIONS, LOSSES, DECODERS, HEADS]
    for registry in (*parts, SHARING, WEIGHTINGS, KINDS, DATASETS):
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    for registry in (*parts, SHARING, WEIGHTINGS):
        registry.register("new")(type("New", (Part,), {"__init__": Part.__init__}))
    KINDS.register("new")(Kind)
    DATASETS.register("new")(Files)


@pytest.mark.parametrize(
    ("key", "override"),
    [
        ("balancing", "balancing={type: new, depth: 3, every: 2}"),
        ("weighting", "weighting={type: new, depth: 3}"),
        ("model.decoder", "model.decoder={type: new, depth: 3}"),
        ("model.sharing", "model.sharing={type: new, depth: 3}"),
        ("model.heads.a", "model.heads.a={type: new, depth: 3}"),
        ("model.heads.a", "model.heads.a={depth: 3}"),
        ("losses.a", "losses.a={type: new, depth: 3}"),
        ("losses.a", "losses.a={depth: 3}"),
        ("data.transforms.train.0", "data.transforms.train=[{type: new, depth: 3}]"),
    ],
)
def test_a_new_class_is_a_choice(key: str, override: str) -> None:
    config = parse_config(BASE, overrides=[override])
    section: Any = config
    for name in key.split("."):
        if isinstance(section, dict | list):
            section = section[int(name) if name.isdecimal() else name]
        else:
            section = getattr(section, name)
    assert section.options == {"depth": 3.0}
    assert parse_config(dump_config(config)) == config
    with pytest.raises(ConfigError) as caught:
        parse_config(BASE, overrides=[override.replace("depth: 3", "depth: no")])
    assert str(caught.value) == f"override {key}.depth: must be a number, got 'no'"


def test_a_new_data_set_has_the_keys_that_it_asks_for() -> None:
    text = BASE.replace("rooms", "new, root: here, noise: 0.5, cache: there, train: 'a[:5]'")
    data = parse_config(text).data
    assert isinstance(data, RunData)
    assert (data.root, data.train, data.val, data.cache) == ("here", "a[:5]", "val", "there")
    assert (data.options, data.workers) == ({"noise": 0.5}, 2)
    with pytest.raises(ConfigError, match=r"^config: data\.root: required key is missing$"):
        parse_config(BASE.replace("rooms", "new"))


def test_an_option_that_is_a_key_of_its_section_is_a_mistake_of_its_author() -> None:
    def init(self: Any, *, every: int = 1) -> None: ...

    BALANCERS.register("clash")(type("Clash", (), {"__init__": init}))
    with pytest.raises(ValueError, match=r"\['every'\] are keys of its section"):
        parse_config(BASE, overrides=["balancing={type: clash}"])


CASES = {
    "losses.detection.type={a: 1}": "unknown value {'a': 1}; known: ",
    "losses.depth.type=[l1]": "unknown value ['l1']; known: ",
    f"data.val.samples={10**30}": f"must be <= 1000000, got {10**30}",
    "data.val.samples=1000000000": "must be <= 1000000, got 1000000000",
    f"model.heads.detection.num_convs={10**30}": f"must be <= 1000000, got {10**30}",
    f"trainer.batch_size={10**30}": f"must be <= 1000000, got {10**30}",
    "optimizer.lr=1e308": "must be <= 1000, got 1e+308",
    "schedule.warmup_epochs=1e9": "must be <= 1000000, got 1000000000.0",
    'losses.depth.threshold="0.1"': "must be a number, got '0.1'",
    "losses.depth.threshold=true": "must be a number, got true",
    "optimizer.name=adahessian": "must be another optimiser: it needs second derivatives",
    "optimizer.name=adamww": "unknown optimiser 'adamww'; timm has, among others, adamw",
    "model.backbone.pretrained=yes": "must be true, false or a source of weights, got 'yes'",
}


@pytest.mark.parametrize("override", CASES)
def test_odd_values_are_one_line_each(override: str) -> None:
    text = f"{BASE}losses: {{depth: {{type: berhu}}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, overrides=[override])
    key = override.partition("=")[0]
    assert str(caught.value).startswith(f"override {key}: {CASES[override]}")
    assert "\n" not in str(caught.value)


def test_every_mistake_is_told_at_once() -> None:
    text = BASE + "seed: -1\ntrainer: {epoch: 3, ema: 2}\nbalancing: {type: cagrad, d: 1, c: x}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "run.yaml", ["optimizer.lr=no", "tasks", "data.size=[1]"])
    assert sorted(str(caught.value).split("\n")) == [
        "override 'tasks': expected key=value, such as trainer.epochs=20",
        "override data.size: must be two integers [height, width] in 32..2048, got [1]",
        "override optimizer.lr: must be a number, got 'no'",
        "run.yaml: balancing.c: must be a number, got 'x'",
        "run.yaml: balancing.d: unknown key; known: type, scope, every, c",
        "run.yaml: seed: must be >= 0, got -1",
        "run.yaml: trainer.ema: must be < 1, got 2",
        "run.yaml: trainer.epoch: unknown key; did you mean 'epochs'?",
    ]


def test_the_schema_reads_what_it_writes_as_plain_values() -> None:
    config = parse_config(BASE, overrides=["model.sharing={type: nddr}", "balancing={type: mgda}"])
    assert Config.model_validate(config.model_dump()) == config
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert config.model_copy(deep=True) == config

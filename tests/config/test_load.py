from __future__ import annotations

from pathlib import Path

import pytest

from visionmtl._yaml import ConfigError
from visionmtl.config.data import MixtureData, RunData
from visionmtl.config.load import config_differences, dump_config, load_config, parse_config
from visionmtl.config.schema import Config
from visionmtl.data.transforms.base import AUGMENTATIONS

BASE = """\
data: {type: rooms}
model:
  backbone: {name: resnet18}
"""


def message(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "run.yaml", overrides)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 600
    assert not any(
        noise in line for noise in ("tagged-union", "pydantic", "http", "Traceback", "Input should")
    )
    return line


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Overrides


def test_overrides_are_parsed_like_yaml_and_the_last_one_wins():
    overrides = [
        "seed=3",
        "seed=4",
        "data.size=[64, 96]",
        "optimizer.lr=3e-4",
        "trainer.clip_grad=null",
        "trainer.ema=0.99",
        "model.heads.depth.channels=32",
        "output_dir=runs/a=b",
        "tasks=[semseg]",
    ]
    config = parse_config(BASE, overrides=overrides)
    assert isinstance(config.data, RunData)
    assert (config.seed, config.data.options, config.optimizer.lr) == (4, {"size": (64, 96)}, 3e-4)
    assert (config.trainer.clip_grad, config.trainer.ema) == (None, 0.99)
    assert config.model.heads["depth"].options == {"channels": 32}
    assert (config.output_dir, config.tasks) == ("runs/a=b", ["semseg"])


def test_a_mapping_replaces_and_a_leaf_changes_one_option():
    text = f"{BASE}losses: {{depth: {{type: berhu, threshold: 0.2}}}}\n"
    loss = parse_config(text, overrides=["losses.depth={type: l1}"]).losses["depth"]
    assert (loss.type, loss.options) == ("l1", {})
    loss = parse_config(text, overrides=["losses.depth.threshold=0.1"]).losses["depth"]
    assert (loss.type, loss.options) == ("berhu", {"threshold": 0.1})
    data = parse_config(BASE, overrides=["data={type: folder, root: a}"]).data
    assert isinstance(data, RunData)
    assert (data.type, data.root) == ("folder", "a")


def test_an_override_reaches_into_a_list():
    text = BASE.replace(
        "type: rooms", "type: rooms, transforms: {train: [{type: horizontal_flip}]}"
    )
    config = parse_config(text, overrides=["data.transforms.train.0.p=0.3"])
    assert isinstance(config.data, RunData)
    (flip,) = config.data.transforms.train
    assert (flip.type, flip.options) == ("horizontal_flip", {"p": 0.3})
    assert message(text, "data.transforms.train.4.p=1").startswith(
        "override data.transforms.train.4.p: cannot be set: "
    )


@pytest.mark.parametrize(
    "text", ["seed", "", "=1", "--seed=1", "a..b=1", "a b=1", "_metadata=1", "__class__=1"]
)
def test_an_override_without_key_and_value_shows_the_usage(text: str):
    assert (
        message(BASE, text) == f"override {text!r}: expected key=value, such as trainer.epochs=20"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.siz=[64, 64]", "override data.siz: unknown key; did you mean 'size'?"),
        ("lr=1", "override lr: unknown key; did you mean 'optimizer.lr'?"),
        ("trainer.epochs=ten", "override trainer.epochs: must be an integer, got 'ten'"),
        ("trainer.epochs.x=1", "override trainer.epochs: must be an integer, got {'x': 1}"),
        ("trainer=null", "override trainer: must be a mapping, got null"),
        ("seed=???", "override seed: must be an integer, got '???'"),
        (
            "seed=${oc.env:HOME}",
            "override seed: line 1, column 1: interpolation (${...}) is not allowed",
        ),
        (
            "data.transforms.val=[{type: crop}]",
            "override data.transforms.val.0.type: unknown value 'crop'; known: "
            f"{', '.join(AUGMENTATIONS)}",
        ),
        ("seed=!!int 1", "override seed: line 1, column 1: tags (!) are not allowed"),
        (
            "data.size=[64",
            "override data.size: line 1, column 4: expected ',' or ']', but got '<stream end>'",
        ),
    ],
)
def test_a_wrong_override_is_named(override: str, expected: str):
    assert message(BASE, "logging.every=5", override) == expected


def test_an_override_of_folder_data_is_named():
    text = "data: {type: folder, root: a}\nmodel: {backbone: {name: resnet18}}\n"
    assert message(text, "data.rot=b") == "override data.rot: unknown key; did you mean 'root'?"


def test_a_mistake_of_the_file_is_not_blamed_on_an_override():
    assert message(f"{BASE}trainer: {{epoch: 3}}", "seed=1").startswith(
        "run.yaml: trainer.epoch: unknown key"
    )


def test_long_values_are_cut():
    assert message(f"{BASE}seed: {'x' * 10_000}").endswith("xxx...")
    assert len(message(f"{BASE}{'k' * 900}: 1")) == 600


MIXTURE = """\
data:
  type: mixture
  sets:
    - {type: rooms, name: drawn, size: [64, 64]}
    - {type: folder, name: mine, root: a, labels: {depth: 0.1}}
    - {type: taskonomy, name: big, root: t, subset: tiny}
model: {backbone: {name: resnet18}}
"""


def test_an_override_reaches_into_a_set_of_a_mixture():
    config = parse_config(
        MIXTURE,
        overrides=["data.sets.1.root=b", "data.sets.1.labels.depth=0.5", "data.sets.2.max_depth=3"],
    )
    assert isinstance(config.data, MixtureData)
    assert [part.name for part in config.data.sets] == ["drawn", "mine", "big"]
    mine, big = config.data.sets[1:]
    assert (mine.type, mine.root, mine.labels) == ("folder", "b", {"depth": 0.5})
    assert (big.type, big.options["subset"], big.options["max_depth"]) == ("taskonomy", "tiny", 3.0)
    assert (
        message(MIXTURE, "data.sets.1.rot=b")
        == "override data.sets.1.rot: unknown key; did you mean 'root'?"
    )
    assert message(MIXTURE, "data.sets.0.size=[64]") == (
        "override data.sets.0.size: must be two integers [height, width] in 32..2048, got [64]"
    )
    assert message(MIXTURE, "data.sets.3.root=b").startswith(
        "override data.sets.3.root: cannot be set: "
    )


# Files


def test_errors_name_the_file(tmp_path: Path):
    path = write(tmp_path / "run.yaml", f"{BASE}sed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: sed: unknown key; did you mean 'seed'?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty; a config needs at least 'data' and 'model'"),
        ("# nothing\n", "empty; a config needs at least 'data' and 'model'"),
        ("- a\n", "a config is a mapping of keys to values, got ['a']"),
        ("rooms", "a config is a mapping of keys to values, got 'rooms'"),
        ("a: 1\na: 2", "line 2, column 1: duplicate key 'a'"),
    ],
)
def test_what_is_no_config(text: str, expected: str):
    assert message(text) == f"run.yaml: {expected}"


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"run\.yaml: cannot be read \(No such file or directory\)$"
    ):
        load_config(tmp_path / "run.yaml")


# Writing and comparing

FULL = [
    "data.transforms.train=[{type: resize, size: [64, 96]}, {type: to_gray}]",
    "data.train.drop_labels={depth: 0.5}",
    "data.size=[64, 2048]",
    "tasks=['1e-3', 'off', '010', 'a: b', '~', '# c', 'größe', 'null', '']",
    "balancing={type: torchjd, name: A, a: null, b: '.nan', c: 1e-30, d: 1e+30, e: \"x\\ty\\n\\0\", "
    "f: 123456789012345678901, g: 'off', h: [[1, 2], []], i: [{a: 1}, {}]}",
    "model.heads={depth: {channels: 32}, detection: {type: fcos}}",
    "model.input_size=[96, 128]",
    "losses={depth: {}, semseg: {type: cross_entropy, class_weights: [1, 2.5]}}",
    "weighting.weights={depth: 1e-5}",
    "trainer.ema=0.999",
]


@pytest.mark.parametrize(
    "overrides", [[], [o.replace(", ''", "") for o in FULL], ["data={type: folder, root: 'C:\\a'}"]]
)
def test_a_dumped_config_is_complete_and_reads_back_equal(overrides: list[str], tmp_path: Path):
    config = parse_config(BASE, overrides=overrides)
    text = dump_config(config)
    again = load_config(write(tmp_path / "run.yaml", text))
    assert again == config
    assert dump_config(again) == text
    keys = [line.partition(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert keys == list(Config.model_fields)


@pytest.mark.parametrize(
    "data",
    ["{type: nyuv2_official, root: a, num_classes: 13}", None],
    ids=["packed", "mixture"],
)
def test_dumped_data_sets_read_back_equal(data: str | None):
    text = MIXTURE if data is None else BASE.replace("{type: rooms}", data)
    config = parse_config(text)
    dumped = dump_config(config)
    assert parse_config(dumped) == config
    assert dump_config(parse_config(dumped)) == dumped


def test_a_task_without_a_name_is_refused():
    assert message(BASE, FULL[3]) == "override tasks.8: must be a string that is not empty, got ''"


def test_a_dump_is_pleasant_to_read():
    text = dump_config(parse_config(BASE, overrides=["tasks=[depth, semseg]"]))
    assert "\n  size: [128, 160]\n" in text
    assert "\ntasks: [depth, semseg]\n" in text
    assert "\nmodel:\n  backbone:\n    name: resnet18\n    pretrained: false\n" in text


def test_differences_name_keys_and_values():
    a = parse_config(BASE)
    b = parse_config(
        BASE,
        overrides=["model.backbone.name=resnet34", "data.size=[64, 96]", "losses.semseg.dice=1"],
    )
    assert config_differences(a, a, []) == []
    assert config_differences(a, b, []) == [
        "data.size: [128, 160] -> [64, 96]",
        "model.backbone.name: 'resnet18' -> 'resnet34'",
        "losses.semseg: (not set) -> {'dice': 1}",
    ]


def test_an_allowed_key_covers_its_children_only():
    a = parse_config(BASE)
    b = parse_config(BASE, overrides=["trainer.epochs=20", "trainer.ema=0.9", "data.workers=2"])
    assert config_differences(a, b, ["trainer", "data.workers"]) == []
    assert config_differences(a, b, ["train", "data.work"]) == [
        "data.workers: 0 -> 2",
        "trainer.epochs: 10 -> 20",
        "trainer.ema: None -> 0.9",
    ]


def test_differences_within_the_sets_of_a_mixture():
    a = parse_config(MIXTURE)
    b = parse_config(
        MIXTURE, overrides=["data.sets.1.root=b", "data.sets.2.subset=full", "data.workers=0"]
    )
    assert config_differences(a, b, ["data.workers"]) == [
        "data.sets.1.root: 'a' -> 'b'",
        "data.sets.2.subset: 'tiny' -> 'full'",
    ]
    fewer = parse_config(MIXTURE.replace("    - {type: rooms, name: drawn, size: [64, 64]}\n", ""))
    (line,) = config_differences(a, fewer)
    assert line.startswith("data.sets: [{'type': 'rooms'")


def test_differences_of_another_kind_of_data():
    lines = config_differences(
        parse_config(BASE), parse_config(BASE, overrides=["data={type: folder, root: a}"]), []
    )
    assert "data.type: 'rooms' -> 'folder'" in lines
    assert "data.size: [128, 160] -> (not set)" in lines
    assert "data.root: (not set) -> 'a'" in lines

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from visionmtl._yaml import ConfigError
from visionmtl.balancing import BALANCERS
from visionmtl.config.data import MixtureData, RunData, sources
from visionmtl.config.load import parse_config
from visionmtl.config.schema import Config, LossConfig
from visionmtl.data.base import DATASETS
from visionmtl.data.transforms.base import AUGMENTATIONS
from visionmtl.models.decoders import DECODERS
from visionmtl.models.sharing import SHARING
from visionmtl.weighting import WEIGHTINGS

BASE = """\
data: {type: rooms}
model:
  backbone: {name: resnet18}
"""
PACKED_KEYS = "type, root, train, val, labels, transforms, workers"
ROOMS_KEYS = "type, size, train, val, transforms, workers"
SETS = ", ".join(DATASETS)
STEPS = ", ".join(AUGMENTATIONS)
TYPES = f"{SETS}, mixture"
SPLIT = "must be a split such as train, train[:80%] or train[10:200]"


def message(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "run.yaml", overrides)
    text = str(caught.value)
    for line in text.split("\n"):
        assert line.isprintable()
        assert len(line) <= 600
    for noise in ("tagged-union", "pydantic", "http", "Traceback", "Input should"):
        assert noise not in text
    return text


def test_defaults_follow_the_schema():
    config = parse_config(BASE)
    assert isinstance(config.data, RunData)
    assert config.seed == 0
    assert config.output_dir == "runs"
    assert config.tasks is None
    assert config.data.options == {"size": (128, 160)}
    assert config.data.workers == 0
    assert (config.data.train.samples, config.data.train.seed) == (512, 0)
    assert (config.data.val.samples, config.data.val.seed) == (64, 1)
    assert config.data.transforms.zoom == "focal"
    assert (config.model.decoder.type, config.model.decoder.options) == ("fpn", {"channels": 96})
    assert config.model.sharing.type == "hard"
    assert config.model.input_size is None
    assert (config.weighting.type, config.weighting.options) == ("constant", {"weights": {}})
    assert config.balancing is None
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-3, 0.05)
    assert (config.schedule.name, config.schedule.warmup_epochs, config.schedule.min_lr_scale) == (
        "cosine",
        1.0,
        0.01,
    )
    assert (config.trainer.epochs, config.trainer.batch_size, config.trainer.clip_grad) == (
        10,
        8,
        5.0,
    )
    assert config.trainer.ema is None
    assert config.trainer.checkpoint_every is None
    assert (config.logging.every, config.logging.tensorboard, config.logging.pictures) == (
        20,
        True,
        4,
    )


def test_the_validation_rooms_keep_their_own_seed_when_only_their_number_is_given():
    config = parse_config(BASE, overrides=["data.val.samples=8"])
    assert isinstance(config.data, RunData)
    assert config.data.val.seed != config.data.train.seed


def test_defaults_are_not_shared_between_configs():
    first, second = parse_config(BASE), parse_config(BASE)
    first.losses["depth"] = LossConfig.model_validate({})
    first.weighting.options["weights"]["depth"] = 2.0
    assert second.losses == {}
    assert parse_config(BASE).weighting.options == second.weighting.options == {"weights": {}}


def test_folder_data():
    config = parse_config(
        "data: {type: folder, root: rooms/small}\nmodel: {backbone: {name: resnet18}}\n"
    )
    assert isinstance(config.data, RunData)
    assert config.data.options == {"derive_normals": False}
    assert (config.data.root, config.data.train, config.data.val, config.data.workers) == (
        "rooms/small",
        "train",
        "val",
        2,
    )


def test_free_options_and_lists():
    text = f"{BASE}tasks: [depth, semseg]\nlosses: {{semseg: {{class_weights: [1, 0.5]}}}}\n"
    config = parse_config(text)
    assert config.tasks == ["depth", "semseg"]
    loss = config.losses["semseg"]
    assert (loss.type, loss.options) == (None, {"class_weights": [1, 0.5]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer: {epoch: 3}", "trainer.epoch: unknown key; did you mean 'epochs'?"),
        ("batch_size: 4", "batch_size: unknown key; did you mean 'trainer.batch_size'?"),
        ('"a\\nb": 4', r"a\nb: unknown key; known: seed, output_dir, data, tasks, model, losses, weighting, "
         "balancing, optimizer, schedule, trainer, logging"),
        ("optimizer: {lr: fast}", "optimizer.lr: must be a number, got 'fast'"),
        ("optimizer: {lr: 0}", "optimizer.lr: must be > 0, got 0"),
        ("optimizer: {lr: .nan}", "optimizer.lr: must be finite, got nan"),
        (f"optimizer: {{lr: {'9' * 400}}}", f"optimizer.lr: must be a number, got {'9' * 57}..."),
        ("optimizer: {lr: 1e999}", "optimizer.lr: must be finite, got inf"),
        ("optimizer: {backbone_lr_scale: 11}", "optimizer.backbone_lr_scale: must be <= 10, got 11"),
        ("trainer: {epochs: 0}", "trainer.epochs: must be >= 1, got 0"),
        ("trainer: {epochs: 1.5}", "trainer.epochs: must be an integer, got 1.5"),
        ("trainer: {epochs: true}", "trainer.epochs: must be an integer, got true"),
        ("trainer: {compile: 1}", "trainer.compile: must be true or false, got 1"),
        ("trainer: {eval_batch_size: 0}", "trainer.eval_batch_size: must be >= 1, got 0"),
        ("trainer: {ema: 1}", "trainer.ema: must be < 1, got 1"),
        ("trainer: {precision: fp8}", "trainer.precision: unknown value 'fp8'; known: fp32, bf16"),
        ("trainer: {precision: off}", "trainer.precision: unknown value 'off'; known: fp32, bf16"),
        ("trainer: null", "trainer: must be a mapping, got null"),
        ("seed: 4294967296", "seed: must be <= 4294967295, got 4294967296"),
        ("output_dir: ''", "output_dir: must be a string that is not empty, got ''"),
        ("tasks: semseg", "tasks: must be a list, got 'semseg'"),
        ("tasks: []", "tasks: must name at least one task; null means every task of the data set, got []"),
        ("tasks: [a, b, a]", "tasks: repeated tasks: a"),
        ("tasks: [a, false]", "tasks.1: must be a string, got false"),
        ("losses: {depth: l1}", "losses.depth: must be a mapping, got 'l1'"),
        ("losses: {depth: {dice: .inf}}", "losses.depth.dice: must be finite, got inf"),
        ("weighting: {type: dwb}", f"weighting.type: unknown value 'dwb'; known: {', '.join(WEIGHTINGS)}; "
         "did you mean 'dwa'?"),
        ("weighting: {temperature: 3}", "weighting.temperature: unknown key; it is an option of type dwa; another type: weighting={type: NAME}"),
        ("weighting: {momentum: 3}", "weighting.momentum: unknown key; known: type, weights"),
        ("weighting: {type: dwa, temperature: .inf}", "weighting.temperature: must be finite, got inf"),
        ("weighting: {weights: {depth: -1}}", "weighting.weights.depth: must be >= 0, got -1"),
        ("weighting: {weights: {depth: .inf}}", "weighting.weights.depth: must be finite, got inf"),
        ("balancing: {type: pcgard}", f"balancing.type: unknown value 'pcgard'; known: {', '.join(BALANCERS)}; "
         "did you mean 'pcgrad'?"),
        ("balancing: pcgrad", "balancing: must be a mapping, got 'pcgrad'"),
        ("balancing: {scope: features}", f"balancing.type: required key is missing; known: {', '.join(BALANCERS)}"),
        ("balancing: {type: cagrad, d: 0.4}", "balancing.d: unknown key; known: type, scope, every, c"),
        ("balancing: {type: cagrad, c: 1}", "balancing.c: must be < 1, got 1"),
        ("balancing: {type: mgda, every: 0}", "balancing.every: must be >= 1, got 0"),
    ],
)  # fmt: skip
def test_mistakes_outside_data_and_model(text: str, expected: str):
    assert message(f"{BASE}{text}\n") == f"run.yaml: {expected}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("rooms", "data: must be a mapping, got 'rooms'"),
        ("{}", f"data.type: required key is missing; known: {TYPES}"),
        ("{type: nyu}", f"data.type: unknown value 'nyu'; known: {TYPES}"),
        ("{type: room}", f"data.type: unknown value 'room'; known: {TYPES}; did you mean 'rooms'?"),
        ("{type: [rooms]}", f"data.type: unknown value ['rooms']; known: {TYPES}"),
        ("{type: coco}", "data.root: required key is missing"),
        ("{type: coco, root: a, year: .inf}", f"data.year: unknown key; known: {PACKED_KEYS}"),
        (
            "{type: folder, root: a, train: ''}",
            "data.train: must be a string that is not empty, got ''",
        ),
        ("{type: folder, root: a, val: 'val[5]'}", f"data.val: {SPLIT}, got 'val[5]'"),
        (
            "{type: folder, root: a, labels: {depth: 1.1}}",
            "data.labels.depth: must be <= 1, got 1.1",
        ),
        ("{type: coco, root: a, labels: {depth: -1}}", "data.labels.depth: must be >= 0, got -1"),
        (
            "{type: folder, root: a, derive_normals: 1}",
            "data.derive_normals: must be true or false, got 1",
        ),
        (
            "{type: folder, root: a, cache: ''}",
            "data.cache: must be a string that is not empty, got ''",
        ),
        (
            "{type: folder, root: a, name: b}",
            "data.name: unknown key; did you mean 'model.backbone.name'?",
        ),
        ("{type: folder}", "data.root: required key is missing"),
        (
            "{type: folder, rot: a}",
            "data.rot: unknown key; did you mean 'root'?\nrun.yaml: data.root: required key is missing",
        ),
        ("{type: rooms, root: a}", f"data.root: unknown key; known: {ROOMS_KEYS}"),
        (
            "{type: rooms, size: 64}",
            "data.size: must be two integers [height, width] in 32..2048, got 64",
        ),
        (
            "{type: rooms, size: [64]}",
            "data.size: must be two integers [height, width] in 32..2048, got [64]",
        ),
        (
            "{type: rooms, size: [64, 1.5]}",
            "data.size: must be two integers [height, width] in 32..2048, got [64, 1.5]",
        ),
        (
            "{type: rooms, size: [31, 64]}",
            "data.size: must be two integers [height, width] in 32..2048, got [31, 64]",
        ),
        ("{type: rooms, workers: 65}", "data.workers: must be <= 64, got 65"),
        (
            "{type: rooms, val: {sample: 1}}",
            "data.val.sample: unknown key; did you mean 'samples'?",
        ),
        (
            "{type: rooms, train: {drop_labels: {depth: 1.1}}}",
            "data.train.drop_labels.depth: must be <= 1, got 1.1",
        ),
        (
            "{type: rooms, transforms: {train: [flip]}}",
            "data.transforms.train.0: must be a mapping, got 'flip'",
        ),
        (
            "{type: rooms, transforms: {val: [{type: to_gray}, {type: resize, size: 64}]}}",
            "data.transforms.val.1.size: must be two integers [height, width] in 1..16384, got 64",
        ),
        (
            "{type: folder, root: a, transforms: {train: [{type: rotate, limit: 5, angle: 3}]}}",
            "data.transforms.train.0.angle: unknown key; known: type, limit, p",
        ),
        (
            "{type: rooms, transforms: {train: [{p: 1}]}}",
            f"data.transforms.train.0.type: required key is missing; known: {STEPS}",
        ),
    ],
)
def test_mistakes_in_data(data: str, expected: str):
    assert (
        message(f"data: {data}\nmodel: {{backbone: {{name: resnet18}}}}\n")
        == f"run.yaml: {expected}"
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", "data.sets: required key is missing"),
        ("sets: []", "data.sets: must have at least one set, got []"),
        ("sets: {a: 1}", "data.sets: must be a list, got {'a': 1}"),
        ("sets: [rooms]", "data.sets.0: must be a mapping, got 'rooms'"),
        ("sets: [{name: a}]", f"data.sets.0.type: required key is missing; known: {SETS}"),
        (
            "sets: [{type: rooms, name: a}, {type: mixture, name: b}]",
            f"data.sets.1.type: unknown value 'mixture'; known: {SETS}",
        ),
        ("sets: [{type: rooms}]", "data.sets.0.name: required key is missing"),
        (
            "sets: [{type: rooms, name: a b}]",
            "data.sets.0.name: must be letters, digits and underscores, no digit first, got 'a b'",
        ),
        ("sets: [{type: rooms, name: a}, {type: rooms, name: a}]", "data.sets: repeated sets: a"),
        (
            "sets: [{type: rooms, name: a}, {type: folder, name: b, rot: x}]",
            "data.sets.1.rot: unknown key; did you mean 'root'?\n"
            "run.yaml: data.sets.1.root: required key is missing",
        ),
        (
            "sets: [{type: rooms, name: a, workers: 2}]",
            "data.sets.0.workers: unknown key; did you mean 'data.workers'?",
        ),
        (
            "sets: [{type: rooms, name: a, size: 64}]",
            "data.sets.0.size: must be two integers [height, width] in 32..2048, got 64",
        ),
        ("sets: [{type: rooms, name: a, tasks: [b, b]}]", "data.sets.0.tasks: repeated tasks: b"),
        (
            "sets: [{type: rooms, name: a, val: {sample: 1}}]",
            "data.sets.0.val.sample: unknown key; did you mean 'samples'?",
        ),
        (
            "sets: [{type: coco, name: a, root: r, train: 'a]'}]",
            f"data.sets.0.train: {SPLIT}, got 'a]'",
        ),
        (
            "sets: [{type: folder, name: a, root: r, transforms: {train: [{type: to_gray}, {type: flip}]}}]",
            f"data.sets.0.transforms.train.1.type: unknown value 'flip'; known: {STEPS}",
        ),
        (
            "sets: [{type: rooms, name: a}], temperature: 0.5",
            "data.temperature: must be >= 1, got 0.5",
        ),
        (
            "sets: [{type: rooms, name: a}], temperature: .inf",
            "data.temperature: must be finite, got inf",
        ),
        (
            "sets: [{type: rooms, name: a}], sampling: evn",
            "data.sampling: unknown value 'evn'; known: size, even, temperature; did you mean 'even'?",
        ),
        (
            "sets: [{type: rooms, name: a}], heads: own",
            "data.heads: unknown value 'own'; known: shared, per_set",
        ),
        (
            "sets: [{type: rooms, name: a}], transforms: {}",
            "data.transforms: unknown key; known: type, sets, heads, sampling, temperature, workers",
        ),
    ],
)
def test_mistakes_in_a_mixture(keys: str, expected: str):
    text = f"data: {{type: mixture, {keys}}}\nmodel: {{backbone: {{name: resnet18}}}}\n"
    assert message(text) == f"run.yaml: {expected}"


MIXTURE = """\
data:
  type: mixture
  sets:
    - {type: rooms, name: drawn, tasks: [depth], size: [64, 64]}
    - {type: folder, name: mine, root: a/b, train: "train[:80%]", labels: {depth: 0.1}, cache: /tmp/c}
    - {type: taskonomy, name: big, root: t, transforms: {zoom: fixed_intrinsics}, subset: tiny, max_depth: 8}
  heads: per_set
  sampling: temperature
model: {backbone: {name: resnet18}}
"""


def test_a_mixture():
    config = parse_config(MIXTURE)
    data = config.data
    assert isinstance(data, MixtureData)
    assert (data.heads, data.sampling, data.temperature, data.workers) == (
        "per_set",
        "temperature",
        2.0,
        2,
    )
    drawn, mine, big = sources(data)
    assert [part.name for part in data.sets] == ["drawn", "mine", "big"]
    assert [part.tasks for part in data.sets] == [["depth"], None, None]
    assert (drawn.options, drawn.val.seed) == ({"size": (64, 64)}, 1)
    assert (mine.train, mine.val, mine.labels) == ("train[:80%]", "val", {"depth": 0.1})
    assert (mine.cache, mine.options) == ("/tmp/c", {"derive_normals": False})
    assert big.options == {"subset": "tiny", "max_depth": 8.0, "normals_frame": "y_down"}
    assert (big.transforms.zoom, mine.transforms.zoom) == ("fixed_intrinsics", "focal")


def test_defaults_of_a_mixture():
    data = parse_config(
        BASE.replace("{type: rooms}", "{type: mixture, sets: [{type: rooms, name: a}]}")
    ).data
    assert isinstance(data, MixtureData)
    assert (data.heads, data.sampling) == ("shared", "size")


def test_a_standard_set_and_its_options():
    text = BASE.replace("{type: rooms}", "{type: nyuv2_official, root: nyu, num_classes: 13}")
    config = parse_config(text)
    assert isinstance(config.data, RunData)
    assert sources(config.data) == [config.data]
    assert config.data.options == {"num_classes": 13, "depth": "filled"}
    assert (config.data.train, config.data.val, config.data.workers) == ("train", "val", 2)


def test_the_size_of_an_evaluation_batch_follows_the_other():
    assert parse_config(BASE).trainer.eval_batch_size is None
    assert parse_config(f"{BASE}trainer: {{eval_batch_size: 1}}").trainer.eval_batch_size == 1


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{}", "model.backbone: required key is missing"),
        ("{backbone: {name: 18}}", "model.backbone.name: must be a string, got 18"),
        (
            "{backbone: {name: a, pretrained: 1}}",
            "model.backbone.pretrained: must be true, false or a source of weights, got 1",
        ),
        (
            "{backbone: {name: a}, decoder: {channels: 4}}",
            "model.decoder.channels: must be >= 8, got 4",
        ),
        (
            "{backbone: {nam: a}, decoder: {type: fp}, sharing: {type: x}}",
            "model.backbone.nam: unknown key; did you mean 'name'?\n"
            "run.yaml: model.backbone.name: required key is missing\n"
            f"run.yaml: model.decoder.type: unknown value 'fp'; known: {', '.join(DECODERS)}; "
            "did you mean 'fpn'?\n"
            f"run.yaml: model.sharing.type: unknown value 'x'; known: {', '.join(SHARING)}",
        ),
        (
            "{backbone: {name: a}, input_size: [64, 4096]}",
            "model.input_size: must be two integers [height, width] in 32..2048, got [64, 4096]",
        ),
    ],
)
def test_mistakes_in_model(model: str, expected: str):
    assert message(f"data: {{type: rooms}}\nmodel: {model}\n") == f"run.yaml: {expected}"


def test_a_missing_section_is_named():
    assert message("data: {type: rooms}") == "run.yaml: model: required key is missing"


def test_the_schema_refuses_options_that_yaml_cannot_carry():
    values = {"data": {"type": "rooms"}, "model": {"backbone": {"name": "resnet18"}}}
    for option, text in (
        ((1, 2), "got tuple"),
        (Path("a"), "got PosixPath"),
        ({1: 2}, "must be strings"),
    ):
        with pytest.raises(ValidationError, match=text):
            Config.model_validate(
                {**values, "balancing": {"type": "torchjd", "name": "Mean", "option": option}}
            )

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from visionmtl._yaml import ConfigError
from visionmtl.config.data import (
    FolderData,
    FolderSet,
    MixtureData,
    PackedData,
    PackedSet,
    RoomsData,
    RoomsSet,
    sources,
)
from visionmtl.config.load import parse_config
from visionmtl.config.schema import Config

BASE = """\
data: {type: rooms}
model:
  backbone: {name: resnet18}
"""
ROOMS_KEYS = "type, size, train, val, transforms, workers"
SETS = (
    "rooms, folder, nyuv2_mtan, nyuv2_atrc, nyuv2_official, pascal_context, cityscapes, cityscapes_mtan, "
    "coco, taskonomy"
)
TYPES = f"{SETS}, mixture"
SPLIT = "must be a split such as train, train[:80%] or train[10:200]"


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


def test_defaults_follow_the_schema():
    config = parse_config(BASE)
    assert isinstance(config.data, RoomsData)
    assert config.seed == 0
    assert config.output_dir == "runs"
    assert config.tasks is None
    assert config.data.size == (128, 160)
    assert (config.data.train.samples, config.data.train.seed) == (512, 0)
    assert (config.data.val.samples, config.data.val.seed) == (64, 1)
    assert config.data.transforms.zoom == "focal"
    assert (config.model.decoder.type, config.model.decoder.channels) == ("fpn", 96)
    assert config.model.sharing.type == "hard"
    assert config.model.input_size is None
    assert (config.weighting.type, config.weighting.weights) == ("constant", {})
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
    assert isinstance(config.data, RoomsData)
    assert config.data.val.seed != config.data.train.seed


def test_defaults_are_not_shared_between_configs():
    first, second = parse_config(BASE), parse_config(BASE)
    first.losses["depth"] = {}
    first.weighting.weights["depth"] = 2.0
    assert second.losses == {}
    assert parse_config(BASE).weighting.weights == second.weighting.weights == {}


def test_folder_data():
    config = parse_config(
        "data: {type: folder, root: rooms/small}\nmodel: {backbone: {name: resnet18}}\n"
    )
    assert isinstance(config.data, FolderData)
    assert (config.data.root, config.data.train, config.data.val, config.data.workers) == (
        "rooms/small",
        "train",
        "val",
        2,
    )


def test_free_options_and_lists():
    text = f"{BASE}tasks: [depth, semseg]\nlosses: {{depth: {{type: berhu, scales: [1, 0.5]}}}}\n"
    config = parse_config(text)
    assert config.tasks == ["depth", "semseg"]
    assert config.losses == {"depth": {"type": "berhu", "scales": [1, 0.5]}}


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
        ("trainer: {precision: off}", "trainer.precision: unknown value false; known: fp32, bf16"),
        ("trainer: null", "trainer: must be a mapping, got null"),
        ("seed: 4294967296", "seed: must be <= 4294967295, got 4294967296"),
        ("output_dir: ''", "output_dir: must be a string that is not empty, got ''"),
        ("tasks: semseg", "tasks: must be a list, got 'semseg'"),
        ("tasks: []", "tasks: must name at least one task; null means every task of the data set, got []"),
        ("tasks: [a, b, a]", "tasks: repeated tasks: a"),
        ("tasks: [a, no]", "tasks.1: must be a string, got false"),
        ("losses: {depth: l1}", "losses.depth: must be a mapping, got 'l1'"),
        ("losses: {depth: {scales: [.inf]}}", "losses.depth: options must be finite, got inf"),
        ("weighting: {type: dwb}", "weighting.type: unknown value 'dwb'; known: constant, uncertainty, dwa, rlw, gls, "
         "imtl_l, stch, famo, db_mtl, gradnorm; did you mean 'dwa'?"),
        ("weighting: {temperature: 3}", "weighting.temperature: unknown key; did you mean 'data.temperature'?"),
        ("weighting: {momentum: 3}", "weighting.momentum: unknown key; known: type, weights"),
        ("weighting: {type: dwa, temperature: .inf}", "weighting.temperature: options must be finite, got inf"),
        ("weighting: {weights: {depth: -1}}", "weighting.weights.depth: must be >= 0, got -1"),
        ("weighting: {weights: {depth: .inf}}", "weighting.weights.depth: must be finite, got inf"),
        ("balancing: {type: pcgard}", "balancing.type: unknown value 'pcgard'; known: sum, pcgrad, gradvac, mgda, "
         "cagrad, imtl_g, nash_mtl, aligned_mtl, fairgrad, upgrad, torchjd; did you mean 'pcgrad'?"),
        ("balancing: pcgrad", "balancing: must be a mapping, got 'pcgrad'"),
        ("balancing: {scope: features}", "balancing.type: required key is missing"),
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
        ("{type: coco, root: a, year: .inf}", "data.year: options must be finite, got inf"),
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
        ("{type: folder, rot: a}", "data.rot: unknown key; did you mean 'root'? (and 1 more)"),
        ("{type: rooms, root: a}", f"data.root: unknown key; known: {ROOMS_KEYS}"),
        ("{type: rooms, size: 64}", "data.size: must be two integers [height, width], got 64"),
        ("{type: rooms, size: [64]}", "data.size: must be two integers [height, width], got [64]"),
        ("{type: rooms, size: [64, 1.5]}", "data.size.1: must be an integer, got 1.5"),
        ("{type: rooms, size: [31, 64]}", "data.size.0: must be >= 32, got 31"),
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
            "data.transforms.val.1: transform step 'resize': size must be two integers [height, width] in [1, 16384], "
            "got 64",
        ),
        (
            "{type: folder, root: a, transforms: {train: [{type: rotate, limit: 5, angle: 3}]}}",
            "data.transforms.train.0: transform step 'rotate': unknown parameter 'angle'; known: limit, p",
        ),
        (
            "{type: rooms, transforms: {train: [{p: 1}]}}",
            "data.transforms.train.0: a transform step needs a 'type'; known: resize, random_scale_crop, random_crop, "
            "horizontal_flip, rotate, color_jitter, gaussian_blur, gaussian_noise, random_gamma, to_gray, jpeg",
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
            "data.sets.1.rot: unknown key; did you mean 'root'? (and 1 more)",
        ),
        (
            "sets: [{type: rooms, name: a, workers: 2}]",
            "data.sets.0.workers: unknown key; did you mean 'data.workers'?",
        ),
        (
            "sets: [{type: rooms, name: a, size: 64}]",
            "data.sets.0.size: must be two integers [height, width], got 64",
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
            "data.sets.0.transforms.train.1: unknown transform step 'flip'; known: resize, random_scale_crop, "
            "random_crop, horizontal_flip, rotate, color_jitter, gaussian_blur, gaussian_noise, random_gamma, to_gray, "
            "jpeg",
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
    - {type: taskonomy, name: big, root: t, transforms: {zoom: fixed_intrinsics}, subset: tiny, frames: [1, 2]}
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
    assert isinstance(drawn, RoomsSet)
    assert isinstance(mine, FolderSet)
    assert isinstance(big, PackedSet)
    assert (drawn.name, drawn.tasks, drawn.size, drawn.val.seed) == (
        "drawn",
        ["depth"],
        (64, 64),
        1,
    )
    assert (mine.tasks, mine.train, mine.val, mine.labels) == (
        None,
        "train[:80%]",
        "val",
        {"depth": 0.1},
    )
    assert (mine.cache, mine.derive_normals) == ("/tmp/c", False)
    assert big.options == {"subset": "tiny", "frames": [1, 2]}
    assert (big.transforms.zoom, mine.transforms.zoom) == ("fixed_intrinsics", "focal")


def test_defaults_of_a_mixture():
    data = parse_config(
        BASE.replace("{type: rooms}", "{type: mixture, sets: [{type: rooms, name: a}]}")
    ).data
    assert isinstance(data, MixtureData)
    assert (data.heads, data.sampling) == ("shared", "size")


def test_a_standard_set_and_its_options():
    text = BASE.replace(
        "{type: rooms}", "{type: nyuv2_official, root: nyu, classes: 13, cut: true}"
    )
    config = parse_config(text)
    assert isinstance(config.data, PackedData)
    assert sources(config.data) == [config.data]
    assert config.data.options == {"classes": 13, "cut": True}
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
            "model.backbone.nam: unknown key; did you mean 'name'? (and 3 more)",
        ),
        (
            "{backbone: {name: a}, input_size: [64, 4096]}",
            "model.input_size.1: must be <= 2048, got 4096",
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
            Config.model_validate({**values, "losses": {"depth": {"option": option}}})

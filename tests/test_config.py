from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from visionmtl.config import Config, FolderData, RoomsData
from visionmtl.configfile import (
    MAX_BYTES,
    ConfigError,
    config_differences,
    dump_config,
    load_config,
    parse_config,
)

BASE = """\
data: {type: rooms}
model:
  backbone: {name: resnet18}
"""
ROOMS_KEYS = "type, size, train, val, transforms, workers"


def message(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "run.yaml", overrides)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 600
    assert not any(noise in line for noise in ("tagged-union", "pydantic", "http", "Traceback", "Input should"))
    return line


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Values


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
    assert (config.schedule.name, config.schedule.warmup_epochs, config.schedule.min_lr_scale) == ("cosine", 1.0, 0.01)
    assert (config.trainer.epochs, config.trainer.batch_size, config.trainer.clip_grad) == (10, 8, 5.0)
    assert config.trainer.ema is None
    assert config.trainer.checkpoint_every is None
    assert (config.logging.every, config.logging.tensorboard, config.logging.pictures) == (20, True, 4)


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
    config = parse_config("data: {type: folder, root: rooms/small}\nmodel: {backbone: {name: resnet18}}\n")
    assert isinstance(config.data, FolderData)
    assert (config.data.root, config.data.train, config.data.val, config.data.workers) == (
        "rooms/small",
        "train",
        "val",
        2,
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("1.5e-3", 1.5e-3), (".5", 0.5), ("2.", 2.0), ("+1e+1", 10.0), ("1", 1.0)],
)
def test_numbers_are_read_as_people_write_them(written: str, expected: float):
    for config in (
        parse_config(f"{BASE}optimizer: {{lr: {written}}}"),
        parse_config(BASE, "c", [f"optimizer.lr={written}"]),
    ):
        assert config.optimizer.lr == expected
        assert isinstance(config.optimizer.lr, float)


@pytest.mark.parametrize(("written", "expected"), [("off", False), ("no", False), ("on", True), ("True", True)])
def test_booleans_of_yaml_1_1_stay_booleans(written: str, expected: bool):
    assert parse_config(f"{BASE}trainer: {{compile: {written}}}").trainer.compile is expected
    assert parse_config(BASE, "c", [f"model.backbone.pretrained={written}"]).model.backbone.pretrained is expected


@pytest.mark.parametrize("written", ["010", "1:30", "2020-01-01", "0x10", "1_000", "v1.0.1"])
def test_surprises_of_yaml_1_1_are_strings(written: str):
    assert parse_config(f"{BASE}output_dir: {written}").output_dir == written


def test_free_options_and_lists():
    text = f"{BASE}tasks: [depth, semseg]\nlosses: {{depth: {{type: berhu, scales: [1, 0.5]}}}}\n"
    config = parse_config(text)
    assert config.tasks == ["depth", "semseg"]
    assert config.losses == {"depth": {"type": "berhu", "scales": [1, 0.5]}}


# Overrides


def test_overrides_are_parsed_like_yaml_and_the_last_one_wins():
    overrides = [
        "seed=3",
        "seed=4",
        "data.size=[64, 96]",
        "optimizer.lr=3e-4",
        "trainer.clip_grad=null",
        "trainer.ema=0.99",
        "model.heads.depth.width=32",
        "output_dir=runs/a=b",
        "tasks=[semseg]",
    ]
    config = parse_config(BASE, overrides=overrides)
    assert isinstance(config.data, RoomsData)
    assert (config.seed, config.data.size, config.optimizer.lr) == (4, (64, 96), 3e-4)
    assert (config.trainer.clip_grad, config.trainer.ema) == (None, 0.99)
    assert config.model.heads == {"depth": {"width": 32}}
    assert (config.output_dir, config.tasks) == ("runs/a=b", ["semseg"])


def test_a_mapping_replaces_and_a_leaf_changes_one_option():
    text = f"{BASE}losses: {{depth: {{type: berhu, threshold: 0.2}}}}\n"
    assert parse_config(text, overrides=["losses.depth={type: l1}"]).losses == {"depth": {"type": "l1"}}
    assert parse_config(text, overrides=["losses.depth.threshold=0.1"]).losses["depth"] == {
        "type": "berhu",
        "threshold": 0.1,
    }
    assert isinstance(parse_config(BASE, overrides=["data={type: folder, root: a}"]).data, FolderData)


def test_an_override_reaches_into_a_list():
    text = BASE.replace("type: rooms", "type: rooms, transforms: {train: [{type: flip}]}")
    config = parse_config(text, overrides=["data.transforms.train.0.p=0.3"])
    assert config.data.transforms.train == [{"type": "flip", "p": 0.3}]
    assert message(text, "data.transforms.train.4.p=1").startswith(
        "override data.transforms.train.4.p: cannot be set: "
    )


@pytest.mark.parametrize("text", ["seed", "", "=1", "--seed=1", "a..b=1", "a b=1", "_metadata=1", "__class__=1"])
def test_an_override_without_key_and_value_shows_the_usage(text: str):
    assert message(BASE, text) == f"override {text!r}: expected key=value, such as trainer.epochs=20"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.siz=[64, 64]", "override data.siz: unknown key; did you mean 'size'?"),
        ("lr=1", "override lr: unknown key; did you mean 'optimizer.lr'?"),
        ("trainer.epochs=ten", "override trainer.epochs: must be an integer, got 'ten'"),
        ("trainer.epochs.x=1", "override trainer.epochs: must be an integer, got {'x': 1}"),
        ("trainer=null", "override trainer: must be a mapping, got null"),
        ("seed=???", "override seed: must be an integer, got '???'"),
        ("seed=${oc.env:HOME}", "override seed: line 1, column 1: interpolation (${...}) is not allowed"),
        ("seed=!!int 1", "override seed: line 1, column 1: tags (!) are not allowed"),
        ("data.size=[64", "override data.size: line 1, column 4: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_a_wrong_override_is_named(override: str, expected: str):
    assert message(BASE, "logging.every=5", override) == expected


def test_an_override_of_folder_data_is_named():
    text = "data: {type: folder, root: a}\nmodel: {backbone: {name: resnet18}}\n"
    assert message(text, "data.rot=b") == "override data.rot: unknown key; did you mean 'root'?"


def test_a_mistake_of_the_file_is_not_blamed_on_an_override():
    assert message(f"{BASE}trainer: {{epoch: 3}}", "seed=1").startswith("run.yaml: trainer.epoch: unknown key")


# Mistakes in the schema


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
        ("optimizer: {lr: 1e999}", "optimizer.lr: must be finite, got inf"),
        ("optimizer: {backbone_lr_scale: 11}", "optimizer.backbone_lr_scale: must be <= 10, got 11"),
        ("trainer: {epochs: 0}", "trainer.epochs: must be >= 1, got 0"),
        ("trainer: {epochs: 1.5}", "trainer.epochs: must be an integer, got 1.5"),
        ("trainer: {epochs: true}", "trainer.epochs: must be an integer, got true"),
        ("trainer: {compile: 1}", "trainer.compile: must be true or false, got 1"),
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
        ("weighting: {type: dwa}", "weighting.type: unknown value 'dwa'; known: constant"),
        ("weighting: {weights: {depth: -1}}", "weighting.weights.depth: must be >= 0, got -1"),
        ("weighting: {weights: {depth: .inf}}", "weighting.weights.depth: must be finite, got inf"),
        ("balancing: {type: pcgrad}",
         "balancing: no gradient balancing method is available in this version; leave it out or null"),
    ],
)  # fmt: skip
def test_mistakes_outside_data_and_model(text: str, expected: str):
    assert message(f"{BASE}{text}\n") == f"run.yaml: {expected}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("rooms", "data: must be a mapping, got 'rooms'"),
        ("{}", "data.type: required key is missing; known: rooms, folder"),
        ("{type: coco}", "data.type: unknown value 'coco'; known: rooms, folder"),
        ("{type: room}", "data.type: unknown value 'room'; known: rooms, folder; did you mean 'rooms'?"),
        ("{type: [rooms]}", "data.type: unknown value ['rooms']; known: rooms, folder"),
        ("{type: folder}", "data.root: required key is missing"),
        ("{type: folder, rot: a}", "data.rot: unknown key; did you mean 'root'? (and 1 more)"),
        ("{type: rooms, root: a}", f"data.root: unknown key; known: {ROOMS_KEYS}"),
        ("{type: rooms, size: 64}", "data.size: must be two integers [height, width], got 64"),
        ("{type: rooms, size: [64]}", "data.size: must be two integers [height, width], got [64]"),
        ("{type: rooms, size: [64, 1.5]}", "data.size.1: must be an integer, got 1.5"),
        ("{type: rooms, size: [31, 64]}", "data.size.0: must be >= 32, got 31"),
        ("{type: rooms, workers: 65}", "data.workers: must be <= 64, got 65"),
        ("{type: rooms, val: {sample: 1}}", "data.val.sample: unknown key; did you mean 'samples'?"),
        ("{type: rooms, train: {drop_labels: {depth: 1.1}}}", "data.train.drop_labels.depth: must be <= 1, got 1.1"),
        ("{type: rooms, transforms: {train: [flip]}}", "data.transforms.train.0: must be a mapping, got 'flip'"),
    ],
)
def test_mistakes_in_data(data: str, expected: str):
    assert message(f"data: {data}\nmodel: {{backbone: {{name: resnet18}}}}\n") == f"run.yaml: {expected}"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{}", "model.backbone: required key is missing"),
        ("{backbone: {name: 18}}", "model.backbone.name: must be a string, got 18"),
        (
            "{backbone: {name: a, pretrained: 1}}",
            "model.backbone.pretrained: must be true, false or a source of weights, got 1",
        ),
        ("{backbone: {name: a}, decoder: {channels: 4}}", "model.decoder.channels: must be >= 8, got 4"),
        (
            "{backbone: {nam: a}, decoder: {type: fp}, sharing: {type: x}}",
            "model.backbone.nam: unknown key; did you mean 'name'? (and 3 more)",
        ),
        ("{backbone: {name: a}, input_size: [64, 4096]}", "model.input_size.1: must be <= 2048, got 4096"),
    ],
)
def test_mistakes_in_model(model: str, expected: str):
    assert message(f"data: {{type: rooms}}\nmodel: {model}\n") == f"run.yaml: {expected}"


def test_a_missing_section_is_named():
    assert message("data: {type: rooms}") == "run.yaml: model: required key is missing"


def test_long_values_are_cut():
    assert message(f"{BASE}seed: {'x' * 10_000}").endswith("xxx...")
    assert len(message(f"{BASE}{'k' * 900}: 1")) == 600


def test_the_schema_refuses_options_that_yaml_cannot_carry():
    values = {"data": {"type": "rooms"}, "model": {"backbone": {"name": "resnet18"}}}
    for option, text in (((1, 2), "got tuple"), (Path("a"), "got PosixPath"), ({1: 2}, "must be strings")):
        with pytest.raises(ValidationError, match=text):
            Config.model_validate({**values, "losses": {"depth": {"option": option}}})


# Mistakes in the YAML


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty; a config needs at least 'data' and 'model'"),
        ("# nothing\n", "empty; a config needs at least 'data' and 'model'"),
        ("- a\n", "a config is a mapping of keys to values, got ['a']"),
        ("rooms", "a config is a mapping of keys to values, got 'rooms'"),
        ("seed: 1\na: 1\nseed: 2\n", "line 3, column 1: duplicate key 'seed'"),
        ("a: {b: {c: 1, c: 1}}", "line 1, column 15: duplicate key 'c'"),
        ("a:\n\tb: 1\n", "line 2, column 1: tab found; YAML is indented with spaces"),
        ("a: 1\n\tb: 1\n", "line 2, column 1: tab found; YAML is indented with spaces"),
        ("a:\t1\n", "line 1, column 3: tab found; YAML is indented with spaces"),
        ("a: b: 1\n", "line 1, column 5: mapping values are not allowed here"),
        ("a: 1\n---\na: 2\n", "line 2, column 1: expected a single document in the stream but found another document"),
        ("1: a\n", "line 1, column 1: key 1 is not a string; put it in quotes"),
        ("on: a\n", "line 1, column 1: key true is not a string; put it in quotes"),
        ("a: {{ b }}\n", "line 1, column 5: key {'b': None} is not a string; put it in quotes"),
        ("a: &x 1\n", "line 1, column 4: anchors (&) and aliases (*) are not allowed"),
        ("a: *x\n", "line 1, column 4: anchors (&) and aliases (*) are not allowed"),
        ("a: !mine 1\n", "line 1, column 4: tags (!) are not allowed"),
        ("a:\n  - ${oc.env:HOME}\n", "line 2, column 5: interpolation (${...}) is not allowed"),
        ("${oc.env:HOME}: 1\n", "line 1, column 1: interpolation (${...}) is not allowed"),
        ("a: " + "[" * 100_000, "line 1, column 35: more than 32 nested levels"),
        ("a: \0\n", "character 3 is not allowed in YAML"),
        ('a: "\\UFFFFFFFF"', "a value is out of range: Python int too large to convert to C int"),
    ],
)
def test_yaml_that_is_not_plain(text: str, expected: str):
    assert message(text) == f"run.yaml: {expected}"


def test_integers_without_end_are_refused():
    assert message(f"{BASE}seed: {'9' * 5000}").startswith("run.yaml: a value is out of range: ")
    assert message(f"{BASE}optimizer: {{lr: {'9' * 400}}}").startswith(
        "run.yaml: optimizer.lr: must be a number, got 99"
    )


def test_a_bomb_of_aliases_costs_nothing():
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30)]
    start = time.perf_counter()
    assert "anchors (&) and aliases (*)" in message("\n".join(["l0: &l0 [lol]", *levels]))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_python_tags_run_nothing(tag: str, tmp_path: Path):
    trace = tmp_path / "trace"
    assert message(f"{BASE}seed: {tag} ['touch {trace}']") == "run.yaml: line 4, column 7: tags (!) are not allowed"
    message(BASE, f"seed={tag} ['touch {trace}']")
    assert not trace.exists()


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONMTL_SECRET", "hidden")
    assert "hidden" not in message(f"{BASE}output_dir: '${{oc.env:VISIONMTL_SECRET}}'")
    assert "hidden" not in message(BASE, "output_dir=a${oc.env:VISIONMTL_SECRET}")


# Files


def test_a_file_with_bom_and_windows_line_ends_is_read(tmp_path: Path):
    path = write(tmp_path / "run.yaml", b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert load_config(path) == load_config(str(path)) == parse_config(BASE)


def test_errors_name_the_file(tmp_path: Path):
    path = write(tmp_path / "run.yaml", f"{BASE}sed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: sed: unknown key; did you mean 'seed'?"


def test_files_that_cannot_be_read(tmp_path: Path):
    latin = write(tmp_path / "latin.yaml", "output_dir: größe\n".encode("latin-1"))
    utf16 = write(tmp_path / "utf16.yaml", BASE.encode("utf-16"))
    for path, problem in (
        (tmp_path / "missing.yaml", "cannot read the config: No such file or directory"),
        (tmp_path, "cannot read the config: Is a directory"),
        (latin, "not UTF-8 text (byte 14)"),
        (utf16, "not UTF-8 text (byte 0)"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}: {problem}"


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path):
    path = write(tmp_path / "huge.yaml", f"{BASE}# {'x' * 10 * MAX_BYTES}\n")
    start = time.perf_counter()
    with pytest.raises(ConfigError, match="a config has at most 1000000 bytes"):
        load_config(path)
    assert time.perf_counter() - start < 1


# Writing and comparing

FULL = [
    "data.transforms.train=[{type: flip, p: 0.5, sizes: [[1, 2], []]}, {type: 'off'}]",
    "data.train.drop_labels={depth: 0.5}",
    "data.size=[64, 2048]",
    "tasks=['1e-3', 'off', '010', 'a: b', '~', '# c', 'größe', 'null', '']",
    "model.heads={depth: {a: null, b: '.nan', c: 1e-30, d: 1e+30, e: \"x\\ty\\n\\0\", f: 123456789012345678901}}",
    "model.input_size=[96, 128]",
    "losses={depth: {}}",
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


def test_a_task_without_a_name_is_refused():
    assert message(BASE, FULL[3]) == "override tasks.8: must be a string that is not empty, got ''"


def test_a_dump_is_pleasant_to_read():
    text = dump_config(parse_config(BASE, overrides=["tasks=[depth, semseg]"]))
    assert "\n  size: [128, 160]\n" in text
    assert "\ntasks: [depth, semseg]\n" in text
    assert "\nmodel:\n  backbone:\n    name: resnet18\n    pretrained: false\n" in text


def test_differences_name_keys_and_values():
    a = parse_config(BASE)
    b = parse_config(BASE, overrides=["model.backbone.name=resnet34", "data.size=[64, 96]", "losses.depth.beta=1"])
    assert config_differences(a, a, []) == []
    assert config_differences(a, b, []) == [
        "data.size: [128, 160] -> [64, 96]",
        "model.backbone.name: 'resnet18' -> 'resnet34'",
        "losses.depth: (not set) -> {'beta': 1}",
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


def test_differences_of_another_kind_of_data():
    lines = config_differences(parse_config(BASE), parse_config(BASE, overrides=["data={type: folder, root: a}"]), [])
    assert "data.type: 'rooms' -> 'folder'" in lines
    assert "data.size: [128, 160] -> (not set)" in lines
    assert "data.root: (not set) -> 'a'" in lines


def test_reading_a_config_needs_no_heavy_package():
    code = "import sys, visionmtl.configfile; print(sorted({'torch', 'timm', 'numpy', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

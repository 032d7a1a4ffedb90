from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from visionmtl.analysis.compare.caveats import caveats
from visionmtl.analysis.compare.cost import measure_cost
from visionmtl.analysis.compare.gains import Comparison, compare
from visionmtl.analysis.compare.groups import Group, choose_baseline, group_runs
from visionmtl.analysis.compare.reading import read_run
from visionmtl.analysis.compare.spread import Spread
from visionmtl.analysis.compare.table import markdown, rich_table, tables
from visionmtl.analysis.inspect.costs import input_size
from visionmtl.cli.main import main
from visionmtl.config.load import dump_config, parse_config
from visionmtl.types import TaskSpec

CONFIG = """
data: {type: rooms, size: [64, 64], train: {samples: 8}, val: {samples: 4}}
model:
  backbone: {name: test_resnet, pretrained: true}
  decoder: {channels: 16}
  input_size: [64, 96]
trainer: {epochs: 2}
"""
SPECS = {spec.name: spec for spec in (TaskSpec.depth(), TaskSpec.normals())}
DEPTH = (
    "abs_err",
    "abs_rel",
    "sq_rel",
    "rmse",
    "rmse_log",
    "log10",
    "silog",
    "delta1",
    "delta2",
    "delta3",
)
NORMALS = ("mean", "median", "within_11.25", "within_22.5", "within_30")


def values(depth: float | None, normals: float | None) -> dict[str, Any]:
    """An evaluation: all errors and shares of a task are the same number."""
    found: dict[str, Any] = {"score": 1.0, "samples": {"total": 4}}
    if depth is not None:
        found["depth"] = {**dict.fromkeys(DEPTH, depth), "rmse_per_image": depth}
    if normals is not None:
        found["normals"] = dict.fromkeys(NORMALS, normals)
    return found


def write_run(
    folder: Path,
    *overrides: str,
    depth: float | None = 1.0,
    normals: float | None = 20.0,
    epochs: int = 2,
) -> Path:
    """A finished run by hand; its last evaluation has the given numbers, the one before has better
    ones.
    """
    tasks = [name for name, value in (("depth", depth), ("normals", normals)) if value is not None]
    config = parse_config(CONFIG, overrides=[f"tasks=[{','.join(tasks)}]", *overrides])
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    better = values(*(value and value / 2 for value in (depth, normals)))
    evaluations = [better] * (epochs - 1) + [values(depth, normals)] * (epochs > 0)
    records: list[dict[str, Any]] = [
        {"step": 1, "epoch": 0, "split": "train", "loss": {"depth": 1.0}}
    ]
    for epoch, evaluation in enumerate(evaluations, start=1):
        records.append(
            {"step": epoch, "epoch": epoch, "split": "speed", "images_per_second": 10.0 * epoch}
        )
        records.append({"step": epoch, "epoch": epoch, "split": "val", **evaluation})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    specs = [SPECS[name].to_dict() for name in tasks]
    model = {
        "backbone": "test_resnet",
        "tasks": specs,
        "sharing": config.model.sharing.type,
        "decoder_channels": 16,
    }
    record = {"training_minutes": 30.0 if tasks == ["depth"] else 90.0, "hardware": "abacus"}
    (folder / "model" / "config.json").write_text(
        json.dumps({"model": model, "tasks": specs, "record": record})
    )
    return folder


def groups_of(*folders: Path) -> list[Group]:
    return group_runs([read_run(folder) for folder in folders])


@pytest.fixture
def single_and_hard(tmp_path: Path) -> list[Path]:
    """Single-task runs with means depth 1.0 and normals 20, and a hard-sharing group of two
    seeds.
    """
    return [
        write_run(tmp_path / "depth_s0", "seed=0", depth=0.9, normals=None),
        write_run(tmp_path / "depth_s1", "seed=1", depth=1.1, normals=None),
        write_run(tmp_path / "normals_s0", "seed=0", depth=None, normals=19.0),
        write_run(tmp_path / "normals_s1", "seed=1", depth=None, normals=21.0),
        write_run(tmp_path / "hard_s0", "seed=0", depth=1.2, normals=18.0),
        write_run(tmp_path / "hard_s1", "seed=1", depth=1.1, normals=18.0),
    ]


@pytest.fixture
def comparison(single_and_hard: list[Path]) -> Comparison:
    groups = groups_of(*single_and_hard)
    return compare(groups, choose_baseline(groups, "tasks=[dn]*"))


def test_spread_of_seeds():
    assert Spread.of([1.0, 2.0, 6.0]) == Spread(3.0, pytest.approx(math.sqrt(7)), 3)
    assert Spread.of([69.0, 70.0]).significant() == "69.50 ± 0.71"
    assert Spread.of([0.46]).significant() == "0.4600"
    assert Spread.of([-1e-9]).text(2, sign="+") == "+0.00"
    assert Spread.of([0.0]).significant() == "0.000"
    assert Spread.of([1.0, math.nan]).text(2) == "n/a"


def test_delta_m_by_hand(comparison: Comparison):
    """Depth errors 1.2 and 1.1 for 1.0; the normals' errors and shares 18 for 20."""
    assert comparison.gains["tasks=all"]["A"] == pytest.approx(
        {0: (-20 + 10) / 2, 1: (-10 + 10) / 2}
    )
    # abs_err and abs_rel +20 % (+10 %); two angles -10 %, three shares -10 %, which counts as +10 %
    assert comparison.gains["tasks=all"]["B"] == pytest.approx(
        {0: (2 * 20 - 2 * 10 + 3 * 10) / 7, 1: (2 * 10 - 2 * 10 + 3 * 10) / 7}
    )
    gain = comparison.gain(comparison.others[0], "A")
    assert (gain.mean, gain.std) == pytest.approx((-2.5, 5 / math.sqrt(2)))


def test_the_baseline_has_gain_0_and_its_spread_counts_as_noise(comparison: Comparison):
    depth, normals = (comparison.gain(group, "A") for group in comparison.baseline)
    assert (depth.mean, depth.std) == pytest.approx((0, 10 * math.sqrt(2)), abs=1e-9)
    assert (normals.mean, normals.std) == pytest.approx((0, 5 * math.sqrt(2)), abs=1e-9)
    # standard errors: hard 2.5; depth 10 and normals 5, each half of delta_m
    group = comparison.others[0]
    assert comparison.noise(group, "A") == pytest.approx(2 * math.sqrt(2.5**2 + 5**2 + 2.5**2))
    # B: hard 10 / 7; depth 10, two of seven; a change of all normals' values by 5 % moves two up
    # and three down
    assert comparison.noise(group, "B") == pytest.approx(
        2 * math.sqrt(10**2 + 20**2 + (5 * 1) ** 2) / 7
    )
    assert "delta_m A is -2.50 %, within the noise of 2 seeds (± 12.25)" in comparison.verdict(
        group
    )


def test_a_clear_difference_is_called_better_or_worse(tmp_path: Path):
    runs = [
        write_run(
            tmp_path / f"{name}{seed}",
            f"seed={seed}",
            f"optimizer.lr={lr}",
            depth=depth + seed / 100,
        )
        for name, lr, depth in (("a", 0.1, 1.0), ("b", 0.2, 2.0), ("c", 0.3, 0.5))
        for seed in range(3)
    ]
    groups = groups_of(*runs)
    made = compare(groups, choose_baseline(groups, "*lr=0.1"))
    worse, better = (made.verdict(group) for group in made.others)
    assert worse.count("worse than the baseline and beyond the noise of 3 seeds") == 2
    assert better.count("better than the baseline and beyond the noise of 3 seeds") == 2


def test_a_single_seed_says_nothing_about_noise(tmp_path: Path):
    groups = groups_of(
        write_run(tmp_path / "a", "optimizer.lr=0.1"),
        write_run(tmp_path / "b0", "optimizer.lr=0.2", depth=2.0),
        write_run(tmp_path / "b1", "optimizer.lr=0.2", "seed=1", depth=3.0),
    )
    made = compare(groups, choose_baseline(groups, "a"))
    assert made.verdict(groups[1]).count("with a single seed nothing can be said about noise") == 2


def test_runs_that_differ_in_seed_and_place_are_one_group(tmp_path: Path):
    folders = [
        write_run(
            tmp_path / "b", "seed=1", "output_dir=elsewhere", "logging.every=7", "data.workers=3"
        ),
        write_run(tmp_path / "a", "trainer.checkpoint_every=9"),
        write_run(tmp_path / "c", "seed=2", "model.init_from={depth: x/depth_s2}"),
        write_run(tmp_path / "d", "seed=0", "model.init_from={depth: x/depth_s0}"),
    ]
    path = folders[0] / "config.yaml"
    path.write_text(
        path.read_text().replace("tasks: [depth, normals]", "tasks: null")
    )  # all that the data has
    assert [[run.config.seed for run in group.runs] for group in groups_of(*folders)] == [
        [0, 1],
        [0, 2],
    ]


def test_groups_are_named_by_what_differs(tmp_path: Path):
    groups = groups_of(
        write_run(
            tmp_path / "a", "model.sharing={type: hard}", "model.heads={depth: {channels: 8}}"
        ),
        write_run(tmp_path / "b", "model.sharing={type: independent}", "optimizer.lr=0.1"),
        write_run(tmp_path / "c", "model.sharing={type: hard}", depth=None),
    )
    assert [group.name for group in groups] == [
        "tasks=all sharing=hard optimizer.lr=0.001",
        "tasks=all sharing=independent optimizer.lr=0.1",
        "tasks=normals sharing=hard optimizer.lr=0.001",
    ]


def test_folder_names_where_the_config_does_not_tell_groups_apart(tmp_path: Path):
    (group,) = groups_of(write_run(tmp_path / "hard_seed3-20260101-120000-2"))
    assert group.name == "hard"
    heads = (
        "model.heads={depth: {channels: 8}}"  # the other has none: nothing that both have differs
    )
    groups = groups_of(
        write_run(tmp_path / "one" / "x_s0"), write_run(tmp_path / "two" / "x_s0", heads)
    )
    assert [group.name for group in groups] == [
        str(tmp_path / "one" / "x_s0"),
        str(tmp_path / "two" / "x_s0"),
    ]


def test_a_seed_counts_once(tmp_path: Path):
    with pytest.raises(ValueError, match=r"seed 0 is there twice, .*a and .*b"):
        groups_of(write_run(tmp_path / "a"), write_run(tmp_path / "b"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nothing", "matches none of the groups: tasks=depth; tasks=normals; tasks=all"),
        ("*", "matches all of the groups"),
        (
            "depth_s*",
            r"tasks=all trains depth, normals, tasks=normals normals: only the groups of the baseline",
        ),
        ("tasks=all", r"tasks=normals trains normals, tasks=depth depth"),
    ],
)
def test_a_baseline_that_does_not_fit(pattern: str, message: str, single_and_hard: list[Path]):
    with pytest.raises(ValueError, match=message):
        choose_baseline(groups_of(*single_and_hard), pattern)


def test_the_baseline_trains_each_task_once(single_and_hard: list[Path], tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"exactly once; normals does not fit in tasks=depth \(depth\)"
    ):
        choose_baseline(groups_of(*single_and_hard[:2], *single_and_hard[4:]), "tasks=depth")
    again = write_run(tmp_path / "again", "optimizer.lr=0.1", normals=None)
    groups = groups_of(*single_and_hard, again)
    with pytest.raises(ValueError, match="exactly once; depth does not fit"):
        choose_baseline(groups, "tasks=[dn]*")


def test_the_last_evaluation_counts_not_the_best(tmp_path: Path):
    run = read_run(write_run(tmp_path / "a", depth=1.0))
    assert run.results["depth"]["rmse"] == 1.0
    assert (run.images_per_second, run.minutes, run.samples, run.hardware) == (
        15.0,
        90.0,
        4,
        "abacus",
    )


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"a: the run is not finished, 1 of 2 epochs are evaluated"
    ):
        read_run(write_run(tmp_path / "a", epochs=1))
    with pytest.raises(ValueError, match=r"b: its metrics.jsonl has no evaluation"):
        read_run(write_run(tmp_path / "b", epochs=0))
    with pytest.raises(ValueError, match=r"c: no run folder"):
        read_run(tmp_path / "c")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("metrics.jsonl", '{"step": 2', '{"step" 2', "line 4 is not valid JSON"),
        ("metrics.jsonl", '"split"', '"splat"', "line 1 is no record with step, epoch and split"),
        ("metrics.jsonl", '"rmse"', '"rsme"', "no depth.rmse"),
        ("model/config.json", '"tasks"', '"asks"', "not the config.json of a model folder"),
    ],
)
def test_a_damaged_run_is_named(file: str, old: str, new: str, message: str, tmp_path: Path):
    path = write_run(tmp_path / "a") / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}.*{message}"):
        read_run(tmp_path / "a")


def test_values_that_are_not_defined_are_not_hidden(tmp_path: Path):
    runs = [
        write_run(tmp_path / name, f"optimizer.lr={lr}") for name, lr in (("a", 0.1), ("b", 0.2))
    ]
    path = runs[1] / "metrics.jsonl"
    path.write_text(path.read_text().replace('"rmse": 1.0', '"rmse": null'))
    groups = groups_of(*runs)
    made = compare(groups, choose_baseline(groups, "a"))
    assert "delta_m A is not defined" in made.verdict(groups[1])
    assert "delta_m B is +0.00 %" in made.verdict(groups[1])
    assert tables(made)[0].rows[1] == ["optimizer.lr=0.2", "1", "n/a", "20.00", "n/a", "+0.00"]
    assert made.to_dict()["groups"]["optimizer.lr=0.2"]["delta_m"]["A"]["mean"] is None


def test_caveats(tmp_path: Path):
    other = write_run(
        tmp_path / "b", "data.val.samples=9", "trainer.epochs=3", "data.train.samples=9", epochs=3
    )
    start = write_run(tmp_path / "c", "model.init_from={depth: x}")
    path = start / "metrics.jsonl"
    path.write_text(path.read_text().replace('"total": 4', '"total": 3'))
    found = caveats(groups_of(write_run(tmp_path / "a", "optimizer.lr=0.1"), other, start))
    assert len(found) == 4
    assert "different data, not the same: data.val.samples." in found[0]
    assert "was trained for 3 epochs" in found[1]
    assert "number of samples" in found[2]
    assert "starts from trained models" in found[3]


def test_cost_counts_parameters_and_macs(tmp_path: Path):
    hard, independent = (
        measure_cost([read_run(write_run(tmp_path / name, f"model.sharing={{type: {name}}}"))])
        for name in ("hard", "independent")
    )
    assert hard.input_size == (64, 96)
    assert hard.parameters < independent.parameters < 2 * hard.parameters
    assert hard.macs is not None
    assert independent.macs is not None
    assert hard.macs < independent.macs < 2 * hard.macs
    assert hard.minutes == Spread(90.0, pytest.approx(math.nan, nan_ok=True), 1)


def test_input_size_without_one_in_the_model():
    crop = "data.transforms.train=[{type: random_scale_crop, size: [32, 64], scale: [1, 1]}, {type: horizontal_flip}]"
    assert input_size(parse_config(CONFIG, overrides=["model.input_size=null", crop])) == (32, 64)
    assert input_size(parse_config(CONFIG, overrides=["model.input_size=null"])) == (64, 64)
    folder = parse_config(
        CONFIG, overrides=["model.input_size=null", "data={type: folder, root: x}"]
    )
    assert input_size(folder) is None


def test_tables_have_a_row_per_group_and_arrows(comparison: Comparison):
    results, depth, normals, cost = tables(comparison)
    assert results.header == [
        "",
        "seeds",
        "depth rmse ↓",
        "normals mean ↓",
        "delta_m A % ↑",
        "delta_m B % ↓",
    ]
    assert results.rows[0] == [
        "tasks=depth (baseline)",
        "2",
        "1.000 ± 0.141",
        "",
        "+0.00 ± 14.14",
        "+0.00 ± 14.14",
    ]
    assert results.rows[2] == [
        "tasks=all",
        "2",
        "1.150 ± 0.071",
        "18.00 ± 0.00",
        "-2.50 ± 3.54",
        "+5.71 ± 2.02",
    ]
    assert depth.header == ["", "rmse ↓", "abs_err ↓", "abs_rel ↓"]
    assert [row[0] for row in normals.rows] == ["tasks=normals (baseline)", "tasks=all"]
    assert [row[-1] for row in cost.rows] == [
        "30.0 ± 0.0 min",
        "90.0 ± 0.0 min",
        "90.0 ± 0.0 min",
        "2.0 h",
    ]
    assert rich_table(cost).row_count == 4
    text = markdown(comparison)
    assert "| `tasks=all` | 2 | 1.150 ± 0.071 |" in text
    assert "never of its best" in text
    assert "abacus" in text


def test_the_command_writes_markdown_and_json(
    single_and_hard: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folders = [str(folder) for folder in single_and_hard]
    outputs = ["--output", str(tmp_path / "out.md"), "--json", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit) as stop:
        main(["compare", *folders, "--baseline", "tasks=[dn]*", *outputs])
    assert stop.value.code == 0
    assert "tasks=all: delta_m A is -2.50 %, within the noise" in capsys.readouterr().out
    assert (tmp_path / "out.md").read_text().startswith("**Main metrics and delta_m**")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["baseline"] == ["tasks=depth", "tasks=normals"]
    group = found["groups"]["tasks=all"]
    assert group["delta_m"]["A"]["seeds"] == pytest.approx({"0": -5.0, "1": 0.0})
    assert group["metrics"]["normals"]["mean"] == {"mean": 18.0, "std": 0.0, "count": 2}
    assert group["cost"]["input_size"] == [64, 96]
    assert "noise" not in found["groups"]["tasks=depth"]["delta_m"]["A"]

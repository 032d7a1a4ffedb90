from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from visionmtl._errors import RunError
from visionmtl.analysis.benchmark import training
from visionmtl.analysis.benchmark.bench import Bench, medians
from visionmtl.analysis.benchmark.schemes import TrainingStep
from visionmtl.analysis.benchmark.sections import ON_REQUEST, SECTIONS, _drawn, benchmark
from visionmtl.analysis.benchmark.table import table
from visionmtl.analysis.benchmark.training import BareLoop, repeated, trainer_loop
from visionmtl.analysis.inspect.costs import count_macs
from visionmtl.cli.benchmark import run
from visionmtl.cli.main import parse as parse_command
from visionmtl.config.load import parse_config
from visionmtl.config.schema import Config
from visionmtl.models.sharing import SHARING

CPU = torch.device("cpu")
TASKS = ["semseg", "depth", "normals", "detection"]
CONFIG = """
data: {type: rooms, size: [64, 96], train: {samples: 8}, val: {samples: 4}}
model:
  backbone: {name: test_resnet, pretrained: true}
  decoder: {channels: 16}
  heads: {depth: {channels: 24}}
optimizer: {name: sgd, lr: 0.05}
schedule: {name: constant, warmup_epochs: 0}
trainer: {epochs: 1, batch_size: 2, checkpoint_every: 1}
logging: {tensorboard: false}
"""


def config(*overrides: str) -> Config:
    return parse_config(CONFIG, overrides=overrides)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "BLOCK_SECONDS", 1e-6)
        return benchmark(config("data.workers=1"), CPU, repeats=2)


def numbers(values: Mapping[str, Any]) -> Iterator[float]:
    for value in values.values():
        if isinstance(value, Mapping):
            yield from numbers(value)
        elif not isinstance(value, str):
            yield from value if isinstance(value, list) else [value]


def test_every_section_gives_positive_finite_numbers(results: dict[str, Any]) -> None:
    assert list(results) == list(SECTIONS)
    for name in set(SECTIONS) - {"memory"}:
        assert all(math.isfinite(value) and value > 0 for value in numbers(results[name])), name
    # Earlier tests of this process may have set its peak.
    assert 0 <= results["memory"]["predict_mib"] <= results["memory"]["train_mib"] < 10_000


def test_sections_have_their_keys(results: dict[str, Any]) -> None:
    assert set(results["memory"]) == {"measure", "predict_mib", "train_mib", "train_batch_size"}
    rates = {f"{name}_images_per_s" for name in ("decoding", "one_core", "configured")}
    assert set(results["data"]) == {"workers", "ratio", "quartiles", *rates}
    assert (results["forward"]["height"], results["forward"]["width"]) == (64, 96)
    for batch in ("batch_1", "batch_2"):
        assert set(results["forward"][batch]) == {"latency_ms", "images_per_s", "quartiles"}
    assert list(results["sharing"]) == ["multi_ms", "single_ms", "ratio", "quartiles"]
    assert list(results["sharing"]["single_ms"]) == TASKS
    assert set(results["train_step"]) >= {"framework", "bare", "ratio", "quartiles"}
    assert results["evaluation"]["images"] == 4


def test_reading_alone_takes_of_every_set_what_training_takes() -> None:
    sets = ", ".join(
        f"{{type: rooms, name: {name}, size: [64, 96], train: {{samples: {n}}}}}"
        for name, n in (("a", 9), ("b", 3))
    )
    mixed = config(f"data={{type: mixture, workers: 0, sampling: even, sets: [{sets}]}}")
    with Bench(mixed, CPU, repeats=1) as bench:
        data = bench.uncached
        drawn = _drawn(bench, 24)  # two epochs of 12
        assert [sum(data.sample_id(i).startswith(name) for i in drawn) for name in "ab"] == [12, 12]
        assert drawn[:2] == [
            i for batch in islice(bench.train_loader(0)[1], 1) for _, i, *_ in batch
        ]


def test_parameters_and_macs_add_up(results: dict[str, Any]) -> None:
    parameters, macs = results["size"]["parameters"], results["size"]["macs"]
    assert list(parameters["tasks"]) == TASKS
    assert parameters["shared"] + sum(parameters["tasks"].values()) == parameters["total"]
    reduce, mix, predict = 4 * (16 * 9 + 2) * 24, (24 * 9 + 2) * 24, 25
    assert parameters["tasks"]["depth"] == reduce + mix + predict
    assert macs["ratio"] == macs["multi"] / sum(macs["single"].values())
    assert max(macs["single"].values()) < macs["multi"] < sum(macs["single"].values())


def test_macs_of_a_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1, stride=2))
    assert count_macs(net, torch.zeros(1, 3, 10, 12)) == 8 * 3 * 9 * 120 + 5 * 8 * 30


def test_single_models_are_parts_of_the_whole() -> None:
    with Bench(config("model.sharing.type=independent"), CPU, repeats=1) as bench:
        for task, single in bench.single_models.items():
            own = {
                name: value.shape
                for name, value in single.state_dict().items()
                if name.startswith("heads")
            }
            whole = bench.model.heads[task].state_dict(prefix=f"heads.{task}.")
            assert own == {name: value.shape for name, value in whole.items()}
            assert not single.training
        assert sum(
            count_macs(m, bench.images(1)) for m in bench.single_models.values()
        ) == count_macs(bench.model, bench.images(1))


@pytest.mark.parametrize(
    "extra",
    [
        [],
        [
            "trainer.accumulate=2",
            "trainer.clip_grad=null",
            "trainer.ema=0.9",
            "trainer.precision=bf16",
        ],
    ],
)
def test_both_training_loops_do_the_same_arithmetic(extra: list[str]) -> None:
    with Bench(config(*extra), CPU, repeats=1) as bench:
        batches, bare = repeated(bench, 3), BareLoop(bench)
        start = {name: value.clone() for name, value in bare.model.state_dict().items()}
        trainer_loop(bench)(batches)
        bare(batches)
        trained = bench.trainer.evaluated_model.state_dict()
        by_hand = (bare.ema.module if bare.ema is not None else bare.model).state_dict()
        assert any(not torch.equal(trained[name], start[name]) for name in start)
        torch.testing.assert_close(by_hand, trained)


@pytest.fixture(scope="module")
def schemes() -> dict[str, Any]:
    return benchmark(config("model.sharing={type: mtan}"), CPU, only=["schemes"], repeats=2)[
        "schemes"
    ]


def test_every_scheme_is_measured_on_request_alone(schemes: dict[str, Any]) -> None:
    assert list(schemes)[:3] == ["batch_size", "hard", "independent"]
    assert set(schemes) == {"batch_size", *SHARING}
    assert list(ON_REQUEST) == ["schemes"]
    assert not set(ON_REQUEST) & set(SECTIONS)
    times = ["inference_ms", "inference_over_hard", "inference_over_independent"]
    times += ["train_step_ms", "train_step_over_hard", "train_step_over_independent"]
    for name in SHARING:
        assert list(schemes[name]) == ["parameters", "macs", *times, "quartiles"]
        assert list(schemes[name]["quartiles"]) == times
        assert all(math.isfinite(value) and value > 0 for value in numbers(schemes[name]))


def test_schemes_are_compared_with_hard_and_independent(schemes: dict[str, Any]) -> None:
    for name in ("hard", "independent"):
        assert (
            schemes[name][f"inference_over_{name}"] == schemes[name][f"train_step_over_{name}"] == 1
        )
    with Bench(config(), CPU, repeats=1) as bench:
        size = SECTIONS["size"](bench)
    assert schemes["hard"]["macs"] == size["macs"]["multi"]
    assert schemes["hard"]["parameters"] == size["parameters"]["total"]
    assert schemes["independent"]["macs"] == sum(size["macs"]["single"].values())
    assert schemes["hard"]["macs"] < schemes["mtan"]["macs"]
    assert schemes["independent"]["macs"] < schemes["nddr"]["macs"]


def test_a_backbone_in_one_piece_is_measured_under_the_schemes_that_take_it() -> None:
    results = benchmark(config("model.backbone.name=test_vit"), CPU, only=["schemes"], repeats=1)[
        "schemes"
    ]
    assert list(results) == ["batch_size", "hard", "independent"]


def test_a_training_step_of_a_scheme_trains() -> None:
    with Bench(config(), CPU, repeats=1) as bench:
        step = TrainingStep(bench, bench.config, list(bench.train_loader(workers=0)[0]))
        start = {name: value.clone() for name, value in step.model.named_parameters()}
        step()
        assert all(parameter.grad is None for parameter in step.model.parameters())
        changed = [
            not torch.equal(value, start[name]) for name, value in step.model.named_parameters()
        ]
        assert sum(changed) > 0.9 * len(changed)


def test_input_size_is_that_of_the_model_or_of_the_validation_images() -> None:
    with Bench(config("model.input_size=[32, 64]"), CPU, repeats=1) as bench:
        assert bench.images(2).shape == (2, 3, 32, 64)
    steps = "data.transforms.val=[{type: resize, size: [40, 60]}]"
    with Bench(config(steps), CPU, repeats=1) as bench:
        assert bench.input_size == (40, 60)


def test_in_turn_reverses_every_other_round_and_drops_the_warm_up() -> None:
    calls: list[str] = []
    with Bench(config(), CPU, repeats=2) as bench:
        times = bench.in_turn(
            {"b": lambda: calls.append("b"), "a": lambda: calls.append("a")}, warm_up=1
        )
    assert "".join(calls) == "abbaab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"b": 2, "a": 2}


def test_medians() -> None:
    assert medians({"x": [4.0, 1.0, 2.0, 3.0, 5.0]}) == {"x": 3.0, "quartiles": {"x": [2.0, 4.0]}}


def test_unknown_section_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match=r"--only: unknown sections \['spede'\]; known: memory, size, data, forward",
    ):
        benchmark(config(), CPU, only=["forward", "spede"])


def parse(folder: Path, *options: str) -> argparse.Namespace:
    path = folder / "tiny.yaml"
    path.write_text(CONFIG)
    words = [str(path), "model.decoder.channels=8", *options, "--device", "cpu", "--repeats", "2"]
    return parse_command(["benchmark", *words])


def test_run_writes_json_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert run(parse(tmp_path, "--only", "sharing,size", "--json", str(out))) == 0
    record = json.loads(out.read_text())
    assert list(record["sections"]) == ["size", "sharing"]
    assert record["config"] == str(tmp_path / "tiny.yaml")
    assert record["overrides"] == ["model.decoder.channels=8"]
    assert record["threads"] == torch.get_num_threads()
    assert record["environment"]["packages"]["torch"]
    assert record["environment"]["device"]
    printed = capsys.readouterr().out
    assert "multi_ms" in printed
    assert "single_ms depth" in printed


def test_table_shows_nested_quartiles() -> None:
    section = {
        "single_ms": {"depth": 12.5},
        "count": 12345,
        "quartiles": {"single_ms": {"depth": [12.0, 13.0]}},
    }
    environment = {"device": "a CPU", "packages": {"torch": "2"}}
    console = Console(width=100)
    with console.capture() as capture:
        console.print(
            table(
                {"config": "c.yaml", "environment": environment, "sections": {"sharing": section}}
            )
        )
    lines = [line.split() for line in capture.get().splitlines()]
    assert ["│", "single_ms", "depth", "│", "12.5", "│", "12.0", "to", "13.0", "│"] in lines
    assert ["│", "count", "│", "12,345", "│", "│"] in lines


def test_bad_arguments_are_found_before_anything_is_measured(tmp_path: Path) -> None:
    arguments = parse(tmp_path, "--json", str(tmp_path / "missing" / "out.json"))
    with pytest.raises(
        ValueError, match=r"--json: .*out.json' is not a file in an existing folder"
    ):
        run(arguments)
    arguments.repeats = 0
    with pytest.raises(ValueError, match="--repeats: must be at least 1, got 0"):
        run(arguments)


def test_a_section_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bench: Bench) -> dict[str, Any]:
        raise RuntimeError("no kernel\nat depth 3")

    monkeypatch.setitem(SECTIONS, "size", fail)
    with pytest.raises(RunError, match=r"^no kernel$"):
        run(parse(tmp_path, "--only", "size"))

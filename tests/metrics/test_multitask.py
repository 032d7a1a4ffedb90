from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from rich.console import Console

from visionmtl.metrics import MultiTaskMetrics, delta_m, format_table, validation_score
from visionmtl.tasks import KINDS, TaskSpec
from visionmtl.types import BoxTargets, DenseTargets, Detections, Targets

SPECS = [
    TaskSpec.semseg(["wall", "floor", "chair"]),
    TaskSpec.depth(10.0),
    TaskSpec.normals(),
    TaskSpec.detection(["cat", "dog"]),
]
SEMSEG, DEPTH, NORMALS, DETECTION = SPECS
Batch = tuple[dict[str, Any], dict[str, Targets]]


def random_batch(batch: int = 4, seed: int = 0) -> Batch:
    """Every image has all tasks, except that depth and detection are not annotated on image 0."""
    g = torch.Generator().manual_seed(seed)
    h, w = 12, 16
    everywhere, annotated = (
        torch.ones(batch, h, w, dtype=torch.bool),
        torch.ones(batch, dtype=torch.bool),
    )
    some = annotated.clone()
    some[0] = False
    semseg = torch.randint(0, 3, (batch, h, w), generator=g)
    depth = 1 + 8 * torch.rand(batch, 1, h, w, generator=g)
    normals = F.normalize(torch.randn(batch, 3, h, w, generator=g), dim=1)
    corners = 50 * torch.rand(batch, 3, 2, generator=g)
    boxes = torch.cat([corners, corners + 30], 2)
    labels = torch.randint(0, 2, (batch, 3), generator=g)
    predictions: dict[str, Any] = {
        "semseg": F.one_hot(semseg, 3).movedim(-1, 1) + torch.randn(batch, 3, h, w, generator=g),
        "depth": depth + 0.5 * torch.randn(depth.shape, generator=g),
        "normals": normals + 0.3 * torch.randn(normals.shape, generator=g),
        "detection": [
            Detections(b + torch.randn(3, 4, generator=g), torch.rand(3, generator=g), c)
            for b, c in zip(boxes, labels, strict=True)
        ],
    }
    targets: dict[str, DenseTargets | BoxTargets] = {
        "semseg": DenseTargets(semseg.to(torch.uint8), everywhere, annotated),
        "depth": DenseTargets(depth, everywhere & some.view(-1, 1, 1), some),
        "normals": DenseTargets(normals, everywhere, annotated),
        "detection": BoxTargets(list(boxes), list(labels), some.tolist()),
    }
    return predictions, targets


def compute(*batches: Batch) -> dict[str, dict[str, Any]]:
    metrics = MultiTaskMetrics(SPECS)
    for batch in batches:
        metrics.update(*batch)
    return metrics.compute()


def assert_same(a: dict[str, dict[str, Any]], b: dict[str, dict[str, Any]]) -> None:
    assert list(a) == list(b)
    for task in a:
        flat = [{**r[task], **r[task].get("per_class", {}), "per_class": 0} for r in (a, b)]
        assert flat[0] == pytest.approx(flat[1], rel=1e-9, nan_ok=True), task


def results_of(
    semseg: float, depth: float, normals: float, detection: float
) -> dict[str, dict[str, float]]:
    """Every key of a task holds the same value."""
    values = {"semseg": semseg, "depth": depth, "normals": normals, "detection": detection}
    return {
        task: dict.fromkeys(KINDS[task].metric.higher_is_better_by_key, value)
        for task, value in values.items()
    }


@pytest.mark.parametrize("task", SPECS, ids=lambda task: task.name)
def test_metric_publishes_what_it_computes(task: TaskSpec):
    metric = task.kind.metric
    extra = {"per_class", "num_classes_present"}
    assert set(compute(random_batch())[task.name]) - extra == set(metric.higher_is_better_by_key)
    assert {metric.headline, metric.score_key, *metric.delta_m_keys} <= set(
        metric.higher_is_better_by_key
    )
    assert metric.higher_is_better_by_key[metric.score_key], (
        "the validation score is a mean of shares"
    )


def test_equals_the_single_metrics():
    predictions, targets = random_batch()
    results = compute((predictions, targets))
    for task in SPECS:
        metric = task.kind.make_metric()
        metric.update(predictions[task.name], targets[task.name])
        assert_same({task.name: metric.compute()}, {task.name: results[task.name]})


def test_results_are_plain_values():
    assert json.loads(json.dumps(compute(random_batch())))["samples"]["total"] == 4


def test_counts_annotated_samples():
    results = compute(random_batch(4), random_batch(3, seed=1))
    assert results["samples"] == {"total": 7, "semseg": 7, "depth": 5, "normals": 7, "detection": 5}


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_task_without_prediction_is_left_alone():
    predictions, targets = random_batch()
    results = compute(({"depth": predictions["depth"]}, targets))
    assert math.isnan(results["semseg"]["miou"])
    assert math.isnan(results["detection"]["map"])
    assert results["samples"] == {"total": 4, "semseg": 0, "depth": 3, "normals": 0, "detection": 0}


def test_reset_forgets_everything():
    metrics = MultiTaskMetrics(SPECS).to("cpu")
    metrics.update(*random_batch(seed=1))
    metrics.reset()
    metrics.update(*random_batch(seed=2))
    assert_same(metrics.compute(), compute(random_batch(seed=2)))


def test_unknown_task_and_bad_names_are_named():
    predictions, targets = random_batch()
    with pytest.raises(ValueError, match="edge: no such task; metrics: "):
        MultiTaskMetrics(SPECS).update({"edge": predictions["depth"]}, targets)
    with pytest.raises(ValueError, match="task names must differ"):
        MultiTaskMetrics([DEPTH, TaskSpec.normals(name="depth")])
    with pytest.raises(ValueError, match="'samples'"):
        MultiTaskMetrics([TaskSpec.depth(name="samples")])


def _rank(rank: int, folder: Path, batches: list[list[Batch]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=len(batches))
    (folder / f"{rank}.json").write_text(json.dumps(compute(*batches[rank])))
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "sizes", [[(4, 2), (3,)], [(4,), ()]], ids=["unequal", "one rank has nothing"]
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_ranks_together_equal_one_process(tmp_path: Path, sizes: list[tuple[int, ...]]):
    batches = [[random_batch(n, seed=n) for n in rank] for rank in sizes]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, tmp_path, batches)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    whole = compute(*[batch for rank in batches for batch in rank])
    for rank in range(2):
        assert_same(json.loads((tmp_path / f"{rank}.json").read_text()), whole)


def test_validation_score_is_the_mean_of_the_shares():
    assert validation_score(results_of(40.0, 80.0, 60.0, 20.0), SPECS) == pytest.approx(50.0)
    assert validation_score(results_of(40.0, math.nan, 60.0, math.nan), SPECS) == pytest.approx(
        50.0
    )
    assert math.isnan(validation_score(results_of(*[math.nan] * 4), SPECS))


def test_validation_score_follows_the_names_of_the_tasks():
    results = {"near": {"delta1": 70.0}, "far": {"delta1": 30.0}}
    assert (
        validation_score(results, [TaskSpec.depth(name="near"), TaskSpec.depth(name="far")]) == 50.0
    )


def test_perfect_prediction_scores_100():
    predictions, targets = random_batch()
    perfect = {
        **{task: targets[task].value for task in ("semseg", "depth", "normals")},
        "detection": [
            Detections(boxes, torch.ones(len(boxes)), labels)
            for boxes, labels in zip(
                targets["detection"].boxes, targets["detection"].labels, strict=True
            )
        ],
    }
    assert validation_score(compute((perfect, targets)), SPECS) == pytest.approx(100.0)
    assert validation_score(compute((predictions, targets)), SPECS) < 100


def test_diverged_model_does_not_win_by_nan():
    predictions, targets = random_batch()
    broken = {**predictions, "depth": torch.full_like(predictions["depth"], math.nan)}
    assert validation_score(compute((broken, targets)), SPECS) < validation_score(
        compute((predictions, targets)), SPECS
    )


def test_delta_m_golden_value():
    gain = delta_m(results_of(44.0, 1.2, 19.0, 30.0), results_of(40.0, 1.0, 20.0, 20.0), SPECS)
    assert gain.per_task == pytest.approx(
        {"semseg": 10.0, "depth": -20.0, "normals": 5.0, "detection": 50.0}
    )
    assert gain.headline == pytest.approx(11.25)
    # Lower is better; by metric: 2 of semseg, 2 of depth, 5 of normals (2 low, 3 high), 3 of
    # detection.
    assert gain.all_metrics == pytest.approx((2 * -10 + 2 * 20 + 2 * -5 + 3 * 5 + 3 * -50) / 12)


NYUV2_KEYS = {
    "semseg": ("miou", "pixel_accuracy"),
    "depth": ("abs_err", "abs_rel"),
    "normals": ("mean", "median", "within_11.25", "within_22.5", "within_30"),
}


@pytest.mark.parametrize(
    ("row", "published"),
    [
        ((39.29, 65.33, 0.5493, 0.2263, 28.15, 23.96, 22.09, 47.50, 61.08), 5.59),
        ((38.06, 64.64, 0.5550, 0.2325, 27.41, 22.80, 23.86, 49.83, 63.14), 3.97),
        ((38.88, 64.90, 0.5474, 0.2194, 25.06, 19.57, 29.21, 56.61, 68.98), -4.10),
    ],
    ids=["equal weights", "PCGrad", "FAMO"],
)
def test_convention_b_gives_the_published_numbers(row: tuple[float, ...], published: float):
    def as_results(values: tuple[float, ...]) -> dict[str, dict[str, float]]:
        rest = iter(values)
        return {
            task: {key: next(rest) for key in keys} | {"rmse": 1.0}
            for task, keys in NYUV2_KEYS.items()
        }

    single_task = as_results((38.30, 63.76, 0.6754, 0.2780, 25.01, 19.21, 30.14, 57.20, 69.15))
    assert delta_m(as_results(row), single_task, SPECS[:3]).all_metrics == pytest.approx(
        published, abs=0.005
    )


def test_delta_m_of_the_baseline_itself_is_zero():
    results = compute(random_batch())
    gain = delta_m(results, results, SPECS)
    assert (gain.headline, gain.all_metrics) == (0.0, 0.0)


@pytest.mark.parametrize("base", [0.0, math.nan])
def test_delta_m_without_a_base_is_nan(base: float):
    gain = delta_m(results_of(44.0, 1.2, 19.0, 30.0), results_of(40.0, 1.0, 20.0, base), SPECS)
    assert math.isnan(gain.per_task["detection"])
    assert math.isnan(gain.headline)
    assert math.isnan(gain.all_metrics)
    assert gain.per_task["semseg"] == pytest.approx(10.0)


def test_delta_m_names_what_is_missing():
    results = results_of(44.0, 1.2, 19.0, 30.0)
    single_task = {task: values for task, values in results.items() if task != "depth"}
    with pytest.raises(ValueError, match=r"the single-task results have no value depth\.rmse"):
        delta_m(results, single_task, SPECS)
    with pytest.raises(ValueError, match="at least one task"):
        delta_m(results, results, [])


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_table_shows_values_and_what_is_missing():
    predictions, targets = random_batch()
    del predictions["detection"]
    results = compute((predictions, targets))
    console = Console(width=100)
    with console.capture() as capture:
        console.print(format_table(results, SPECS))
    text = capture.get()
    assert f"{results['semseg']['miou']:#.4g}" in text
    assert "3 / 4" in text
    assert "n/a" in text
    assert "nan" not in text

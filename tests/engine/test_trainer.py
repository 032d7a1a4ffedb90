from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from visionmtl._errors import Interrupted, NonFiniteLossError, RunError
from visionmtl.data.loader import make_loader
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.transforms.joint import build_transform
from visionmtl.engine.callbacks.checkpoints import Checkpoints
from visionmtl.engine.callbacks.pictures import PictureCollector
from visionmtl.engine.datasets import open_folder
from visionmtl.engine.evaluate import evaluate
from visionmtl.engine.run import build_trainer
from visionmtl.engine.step import forward_losses
from visionmtl.engine.trainer import Trainer
from visionmtl.types import Sample
from visionmtl.zoo.checkpoints import load_checkpoint, save_checkpoint

MakeTrainer = Callable[..., Trainer]
AddDropout = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def cached_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a room once: it is the same every time."""
    draw = RoomsDataset.__getitem__

    def cached(self: RoomsDataset, index: int) -> Sample:
        key = (
            tuple(spec.name for spec in self.tasks),
            self.size,
            str(self._drop_labels),
            self.sample_id(index),
        )
        if key not in ROOMS:
            ROOMS[key] = draw(self, index)
        return ROOMS[key]

    monkeypatch.setattr(RoomsDataset, "__getitem__", cached)


ROOMS: dict[Any, Sample] = {}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log, without the speed."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] != "speed"]


def differences(a: Any, b: Any, key: str = "") -> list[str]:
    """Dotted keys under which two nested states are not equal, bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in a | b for d in differences(a.get(k), b.get(k), f"{key}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [
            d
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for d in differences(x, y, f"{key}.{i}")
        ]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        equal = (
            a.dtype == b.dtype
            and a.shape == b.shape
            and bool(((a == b) | (a.isnan() & b.isnan())).all())
        )
        return [] if equal else [key]
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return [] if a == b or both_nan else [key]


def assert_same_run(a: Path, b: Path, *but: str) -> None:
    """Logs and checkpoints of two runs are equal, but for time and these keys."""
    assert lines(a) == lines(b)
    for name in ("last.pt", "best.pt"):
        one, two = (load_checkpoint(folder / "checkpoints" / name) for folder in (a, b))
        assert one["progress"]["step"] > 0
        allowed = (".progress.seconds", ".callbacks.MetricsLog", *but)
        assert [key for key in differences(one, two) if not key.startswith(allowed)] == []


def stop_in_step(
    monkeypatch: pytest.MonkeyPatch, number: int, signum: int = signal.SIGTERM
) -> None:
    """A signal comes while optimiser step ``number`` is computed."""
    real = Trainer.train_step

    def step(self: Trainer, *args: Any) -> Any:
        if self.progress.step + 1 == number:
            os.kill(os.getpid(), signum)
        return real(self, *args)

    monkeypatch.setattr(Trainer, "train_step", step)


# 26 batches of one image, two per step: 13 steps per epoch.
EXACT = (
    "data.train.samples=26",
    "data.train.drop_labels={depth: 0.5}",
    "trainer.batch_size=1",
    "trainer.accumulate=2",
    "trainer.ema=0.9",
    "trainer.clip_grad=1.0",
    "weighting.weights={semseg: 0.5, depth: 2.0}",
    "optimizer.backbone_lr_scale=0.5",
    "logging.every=3",
)


@pytest.fixture(scope="module")
def uninterrupted(
    make_config: Any, tmp_path_factory: pytest.TempPathFactory, add_dropout: AddDropout
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    folder.mkdir()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        add_dropout(patch)
        console = Console(quiet=True)
        build_trainer(make_config(*EXACT), folder, torch.device("cpu"), console=console).fit()
    return folder


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (2, 0)])
def test_resume_is_exact(
    before: int,
    after: int,
    uninterrupted: Path,
    tmp_path: Path,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    add_dropout: AddDropout,
) -> None:
    add_dropout(monkeypatch)
    last = tmp_path / "checkpoints" / "last.pt"
    with monkeypatch.context() as patch:
        stop_in_step(patch, 7)
        with pytest.raises(
            Interrupted, match=f"stopped at step 7, saved; resume with --resume {last}"
        ) as stop:
            make_trainer(tmp_path, *EXACT, f"data.workers={before}").fit()
    assert stop.value.exit_code == 143
    assert multiprocessing.active_children() == []
    saved = load_checkpoint(last)["progress"]
    assert (saved["epoch"], saved["batch"], saved["step"]) == (0, 14, 7)
    with (tmp_path / "metrics.jsonl").open("a") as file:  # as a killed run leaves it
        file.write('{"step": 9, "epoch": 0, "split": "train"}\n{"step": 1')
    torch.rand(5)
    make_trainer(tmp_path, *EXACT, f"data.workers={after}", resume=last).fit()
    assert_same_run(tmp_path, uninterrupted, ".config")
    assert lines(tmp_path)[-1]["step"] == 26


STATEFUL = {
    "dwa": ("weighting={type: dwa}",),
    "uncertainty, gradvac": ("weighting={type: uncertainty}", "balancing={type: gradvac}"),
    "famo": ("weighting={type: famo}",),
    "gradnorm": ("weighting={type: gradnorm}",),
    "rlw, pcgrad": ("weighting={type: rlw}", "balancing={type: pcgrad, scope: features}"),
    "nash_mtl": ("balancing={type: nash_mtl, every: 3}",),
}


@pytest.mark.parametrize("options", STATEFUL.values(), ids=STATEFUL)
def test_resume_is_exact_with_every_memory(
    options: tuple[str, ...],
    tmp_path: Path,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    add_dropout: AddDropout,
) -> None:
    """Stopped in the third epoch, where dynamic weights have a past, and between two refreshes."""
    add_dropout(monkeypatch)
    short = (
        "data.train.samples=8",
        "data.train.drop_labels={depth: 0.4}",
        "trainer.epochs=3",
        "logging.every=1",
    )
    make_trainer(tmp_path / "whole", *short, *options).fit()
    with monkeypatch.context() as patch:
        stop_in_step(patch, 9)
        with pytest.raises(Interrupted):
            make_trainer(tmp_path / "parts", *short, *options).fit()
    make_trainer(
        tmp_path / "parts", *short, *options, resume=tmp_path / "parts/checkpoints/last.pt"
    ).fit()
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    logged = [line for line in lines(tmp_path / "whole") if "loss" in line]
    assert len(logged) == 12
    assert all(list(line["weights"]) == ["semseg", "depth"] for line in logged)


def test_stop_at_every_other_moment(
    uninterrupted: Path,
    tmp_path: Path,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    add_dropout: AddDropout,
) -> None:
    """In the last step of an epoch, in an evaluation, in the second epoch: one run, stopped three
    times.
    """
    add_dropout(monkeypatch)
    last = tmp_path / "checkpoints" / "last.pt"
    with monkeypatch.context() as patch:
        stop_in_step(patch, 13, signal.SIGINT)
        with pytest.raises(Interrupted) as stop:
            make_trainer(tmp_path, *EXACT).fit()
    assert stop.value.exit_code == 130
    assert load_checkpoint(last)["progress"]["batch"] == 26

    def stop_in_evaluation(self: PictureCollector, *args: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(PictureCollector, "__call__", stop_in_evaluation)
        with pytest.raises(Interrupted) as stop:
            make_trainer(tmp_path, *EXACT, resume=last).fit()
    assert stop.value.exit_code == 138
    trainer = make_trainer(tmp_path, *EXACT, resume=last)
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 13)
    assert trainer.progress.evaluation_due(trainer.options)
    assert [line["split"] for line in lines(tmp_path)].count("val") == 0
    with monkeypatch.context() as patch:
        stop_in_step(patch, 20)
        with pytest.raises(Interrupted):
            trainer.fit()
    make_trainer(tmp_path, *EXACT, resume=last).fit()
    assert_same_run(tmp_path, uninterrupted)


def test_crash_after_the_evaluation_logs_it_once(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(tmp_path / "whole").fit()
    real = Checkpoints.save

    def crash(self: Checkpoints, run: Trainer, path: Path, results: Any = None) -> None:
        if path.name == "last.pt" and run.progress.evaluated == 1:
            raise KeyError("crash")
        real(self, run, path, results)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", crash)
        with pytest.raises(KeyError):
            make_trainer(tmp_path / "crashed").fit()
    assert lines(tmp_path / "crashed")[-1]["split"] == "val"
    make_trainer(tmp_path / "crashed", resume=tmp_path / "crashed/checkpoints/last.pt").fit()
    assert_same_run(tmp_path / "crashed", tmp_path / "whole")


def test_a_finished_run_has_nothing_left_to_do(
    uninterrupted: Path, make_trainer: MakeTrainer
) -> None:
    before = lines(uninterrupted)
    assert (
        make_trainer(uninterrupted, *EXACT, resume=uninterrupted / "checkpoints/last.pt").fit()
        == {}
    )
    assert lines(uninterrupted) == before


def test_changed_keys_are_listed(
    uninterrupted: Path, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    last = uninterrupted / "checkpoints" / "last.pt"
    changes = ("optimizer.lr=0.5", "model.decoder.channels=16", "tasks=[depth]")
    with pytest.raises(ValueError, match="made with another config") as caught:
        make_trainer(tmp_path, *EXACT[:-3], *changes, resume=last)
    for difference in (
        "optimizer.lr: 0.001 -> 0.5",
        "model.decoder.channels: 8 -> 16",
        "tasks: ['semseg', 'depth'] -> ['depth']",
        "weighting.weights.semseg: 0.5 -> (not set)",
    ):
        assert difference in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="made with all batches, now --limit-batches 3"):
        make_trainer(tmp_path, *EXACT, resume=last, limit_batches=3)
    allowed = ("output_dir=x", "logging.pictures=1", "data.workers=1", "trainer.checkpoint_every=3")
    allowed += ("trainer.eval_batch_size=1",)  # after an evaluation that ran out of memory
    make_trainer(tmp_path, *EXACT, *allowed, "trainer.nonfinite=skip", resume=last)


def test_a_state_that_does_not_fit_is_refused_in_one_line(
    uninterrupted: Path, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    saved = load_checkpoint(uninterrupted / "checkpoints" / "last.pt")
    saved["model"].popitem()
    save_checkpoint(tmp_path / "other.pt", saved)
    with pytest.raises(
        ValueError, match=r"other\.pt: does not fit this run.*Missing key"
    ) as caught:
        make_trainer(tmp_path, *EXACT, resume=tmp_path / "other.pt")
    assert "\n" not in str(caught.value)


def test_other_data_is_refused(
    uninterrupted: Path, tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RoomsDataset, "sample_id", lambda self, index: f"other-{index}")
    with pytest.raises(ValueError, match="made with other training data"):
        make_trainer(tmp_path, *EXACT, resume=uninterrupted / "checkpoints/last.pt")


def test_what_is_no_training_checkpoint(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    save_checkpoint(tmp_path / "x.pt", {"model": {}, "config": ""})
    with pytest.raises(
        ValueError,
        match=r"x.pt: no training checkpoint of this version, it lacks data, limit_batches",
    ):
        make_trainer(tmp_path, resume=tmp_path / "x.pt")


@pytest.mark.parametrize("key", ["weighting", "window"])
def test_a_checkpoint_of_an_older_version_is_refused(
    key: str, uninterrupted: Path, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    saved = load_checkpoint(uninterrupted / "checkpoints" / "last.pt")
    del saved[key]
    save_checkpoint(tmp_path / "old.pt", saved)
    with pytest.raises(
        ValueError, match=rf"old\.pt: no training checkpoint of this version, it lacks {key}$"
    ):
        make_trainer(tmp_path, *EXACT, resume=tmp_path / "old.pt")


def test_more_epochs_continue_on_the_schedule_of_the_longer_run(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    make_trainer(tmp_path / "short").fit()
    last = tmp_path / "short" / "checkpoints" / "last.pt"
    longer = make_trainer(tmp_path / "short", "trainer.epochs=4", resume=last)
    fresh = make_trainer(tmp_path / "fresh", "trainer.epochs=4")
    fresh.parts.schedule.set(12)
    assert longer.progress.step == 12
    assert [g["lr"] for g in longer.parts.optimizer.param_groups] == [
        g["lr"] for g in fresh.parts.optimizer.param_groups
    ]
    longer.fit()
    assert longer.progress.epoch == 4
    rates = {line["step"]: line["lr"] for line in lines(tmp_path / "short") if "lr" in line}
    assert rates[12] == pytest.approx(1e-5)  # the end of the short run
    assert rates[14] > 1e-4
    assert rates[24] == pytest.approx(1e-5)


def test_fewer_epochs(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = tmp_path / "checkpoints" / "last.pt"
    long = ("trainer.epochs=5", "trainer.eval_every=4")
    with monkeypatch.context() as patch:
        stop_in_step(patch, 13)
        with pytest.raises(Interrupted):
            make_trainer(tmp_path, *long).fit()
    with pytest.raises(
        ValueError, match=r"trainer.epochs: .*last.pt is in epoch 3 already, cannot stop after 2"
    ):
        make_trainer(tmp_path, *long, "trainer.epochs=2", resume=last)
    make_trainer(tmp_path, *long, "trainer.epochs=3", resume=last).fit()
    assert [line["epoch"] for line in lines(tmp_path) if line["split"] == "val"] == [3]


def test_resume_in_another_folder_has_a_best_checkpoint_of_its_own(
    uninterrupted: Path, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    make_trainer(tmp_path, *EXACT, resume=uninterrupted / "checkpoints/last.pt").fit()
    assert load_checkpoint(tmp_path / "checkpoints/best.pt")["results"]["semseg"]["miou"] >= 0
    assert [line["split"] for line in lines(tmp_path)] == ["val"]


def poison(
    monkeypatch: pytest.MonkeyPatch, *steps: int, task: int = 1, gradient: bool = False
) -> None:
    """The loss of a task, or only its gradient, is NaN in the last micro-batch of these attempts at
    a step.
    """
    calls = []

    def forward(parts: Any, batch: Any, *args: Any) -> torch.Tensor:
        losses = forward_losses(parts, batch, *args)
        calls.append(batch)
        if len(calls) not in [2 * step for step in steps]:
            return losses
        factor = torch.ones(2)
        factor[task] = math.inf if gradient else math.nan
        return (
            losses + (losses * factor - losses * factor).nan_to_num(0)
            if gradient
            else losses * factor
        )

    monkeypatch.setattr("visionmtl.engine.step.forward_losses", forward)


def test_a_bad_loss_is_named_and_nothing_is_overwritten(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 5)
    trainer = make_trainer(tmp_path, "trainer.accumulate=2", "data.train.samples=16")
    with pytest.raises(
        NonFiniteLossError,
        match=r"step 5: loss of depth is nan; samples: rooms-0-\d+, rooms-0-\d+$",
    ):
        trainer.fit()
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert saved["progress"]["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_a_bad_loss_after_the_step_does_not_reach_the_weighting(
    nonfinite: str, tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 1)  # the second forward pass
    trainer = make_trainer(tmp_path, "weighting={type: famo}", f"trainer.nonfinite={nonfinite}")
    with pytest.raises(
        NonFiniteLossError,
        match=r"^step 1: loss of depth is nan; samples: rooms-0-\d+, rooms-0-\d+$",
    ):
        trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.parameters)
    assert [logit.item() for logit in trainer.parts.weighting.logits] == [0.0, 0.0]
    assert not (tmp_path / "checkpoints").exists()


def snapshot(trainer: Trainer) -> dict[str, Any]:
    state = {**trainer.state.state_dict(), "ema": trainer.evaluated_model.state_dict()}
    kept = {
        key: state[key]
        for key in ("model", "ema", "optimizer", "weighting", "window", "epoch_losses")
    }
    clone: dict[str, Any] = torch.utils._pytree.tree_map(
        lambda x: x.clone() if torch.is_tensor(x) else x, kept
    )
    return clone


@pytest.mark.parametrize("gradient", [False, True])
def test_skip_leaves_no_trace(
    gradient: bool, tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    options = (
        "trainer.nonfinite=skip",
        "trainer.accumulate=2",
        "trainer.ema=0.9",
        "data.train.samples=16",
    )
    trainer = make_trainer(tmp_path, *options, console=Console(file=file))
    poison(monkeypatch, 3, gradient=gradient)
    real, states = Trainer.train_step, []

    def step(self: Trainer, *args: Any) -> Any:
        before = snapshot(self)
        losses = real(self, *args)
        states.append((losses is not None, differences(before, snapshot(self))))
        return losses

    monkeypatch.setattr(Trainer, "train_step", step)
    trainer.fit()
    assert [stepped for stepped, _ in states] == [True, True, False, *[True] * 5]
    assert states[2][1] == []
    assert all(changed for stepped, changed in states if stepped)
    what = "gradient norm is nan" if gradient else "loss of depth is nan"
    assert f"skipped (1 of at most 10): step 3: {what}; samples: rooms-0-" in file.getvalue()
    progress = load_checkpoint(tmp_path / "checkpoints" / "last.pt")["progress"]
    assert (progress["skipped"], progress["step"], progress["epoch"]) == (1, 7, 2)
    steps = [line["step"] for line in lines(tmp_path) if "lr" in line]
    assert steps == [2, 4, 6]  # the step before the skipped one is not logged twice


def test_skips_are_capped_over_restarts(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "trainer.nonfinite=skip",
        "trainer.max_skipped=2",
        "trainer.accumulate=2",
        "data.train.samples=16",
    )
    with monkeypatch.context() as patch:
        poison(patch, 1, 2)
        stop_in_step(patch, 2)
        with pytest.raises(Interrupted):
            make_trainer(tmp_path, *options).fit()
    trainer = make_trainer(tmp_path, *options, resume=tmp_path / "checkpoints/last.pt")
    assert trainer.progress.skipped == 2
    poison(monkeypatch, 1)
    with pytest.raises(
        NonFiniteLossError, match=r"loss of depth is nan; .*\(trainer.max_skipped is 2\)"
    ):
        trainer.fit()


def test_labels_for_some_samples_only(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(tmp_path, "data.train.drop_labels={depth: 0.6}", "trainer.batch_size=1")
    trainer.fit()
    epochs = [line for line in lines(tmp_path) if "samples" in line and line["split"] == "train"]
    annotated = sum("depth" in trainer.loaders.train.dataset.dataset[i].targets for i in range(12))
    assert 0 < annotated < 12
    assert [line["samples"] for line in epochs] == [{"semseg": 12, "depth": annotated}] * 2
    assert all(
        line["epoch_loss"]["depth"] > 0.1 for line in epochs
    )  # the mean is over batches with truth


def test_a_task_without_any_label(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    dropped = ("data.train.drop_labels={depth: 1.0}", "data.val.drop_labels={depth: 1.0}")
    trainer = make_trainer(tmp_path, *dropped)
    results = trainer.fit()
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    assert math.isnan(results["depth"]["rmse"])
    assert results["samples"] == {"total": 3, "semseg": 3, "depth": 0}
    logged = lines(tmp_path)
    assert all("depth" not in line["loss"] for line in logged if "loss" in line)
    assert {
        line["samples"]["depth"]
        for line in logged
        if line["split"] == "train" and "samples" in line
    } == {0}
    val = [line for line in logged if line["split"] == "val"]
    assert all(line["depth"]["rmse"] is None for line in val)
    assert [line["score"] for line in val] == [
        pytest.approx(line["semseg"]["miou"]) for line in val
    ]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_no_label_at_all_still_gives_a_best_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    none = "{semseg: 1.0, depth: 1.0}"
    trainer = make_trainer(
        tmp_path, f"data.train.drop_labels={none}", f"data.val.drop_labels={none}"
    )
    trainer.fit()
    best = load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert best["progress"]["epoch"] == 2
    assert math.isnan(best["callbacks"]["Checkpoints"]["best_score"])
    assert all(torch.isfinite(value).all() for value in best["model"].values())
    assert [line["score"] for line in lines(tmp_path) if line["split"] == "val"] == [None, None]


def test_best_is_kept(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([math.nan, 5.0, math.nan, 7.0, 6.0])
    monkeypatch.setattr("visionmtl.engine.trainer.validation_score", lambda *args: next(scores))
    kept = []
    real = Checkpoints.save

    def save(self: Checkpoints, run: Trainer, path: Path, results: Any = None) -> None:
        if path.name == "best.pt":
            kept.append(run.progress.epoch)
        real(self, run, path, results)

    monkeypatch.setattr(Checkpoints, "save", save)
    make_trainer(tmp_path, "trainer.epochs=5", "data.train.samples=2").fit()
    assert kept == [1, 2, 4]


def test_the_last_accumulation_of_an_epoch_may_be_shorter(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(tmp_path, "trainer.accumulate=4")  # 6 batches: 4 and 2
    trainer.fit()
    assert trainer.progress.step == 4
    assert max(group["lr"] for group in trainer.parts.optimizer.param_groups) == pytest.approx(1e-5)


def test_checkpoints_in_mid_epoch(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    real = Checkpoints.save

    def save(self: Checkpoints, run: Trainer, path: Path, results: Any = None) -> None:
        saved.append((path.stem, run.progress.step))
        real(self, run, path, results)

    monkeypatch.setattr(Checkpoints, "save", save)
    make_trainer(tmp_path, "trainer.checkpoint_every=2", "trainer.epochs=1").fit()
    assert saved == [("last", 2), ("last", 4), ("last", 6), ("best", 6), ("last", 6)]


def test_limit_batches(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(tmp_path, "data.workers=1", "data.val.samples=7", limit_batches=2)
    results = trainer.fit()
    assert trainer.progress.step == 4
    assert results["samples"]["total"] == 4


def test_full_disk_keeps_the_old_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path, "trainer.checkpoint_every=2")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if trainer.progress.step == 4:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunError, match=r"last.pt: cannot be written \(No space left on device\)"):
        trainer.fit()
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["progress"]["step"] == 2


def test_stray_files_are_removed_at_the_start(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    (tmp_path / "checkpoints").mkdir()
    strays = [tmp_path / ".config.yaml.0.tmp", tmp_path / "checkpoints" / ".last.pt.0.tmp"]
    for stray in strays:
        stray.touch()
    make_trainer(tmp_path)
    assert not any(stray.exists() for stray in strays)


def test_what_is_printed(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_trainer(tmp_path, console=Console(file=file, width=40)).fit()
    train, val, *_ = file.getvalue().splitlines()
    assert re.fullmatch(
        r"epoch 1/2  train loss  semseg \d\.\d{3}  depth \d\.\d{3}  \d+\.\d images/s", train
    )
    assert re.fullmatch(
        r"epoch 1/2  score \d+\.\d\d  semseg miou \d+\.\d{3}  depth rmse \d+\.\d{3}", val
    )
    assert len(file.getvalue().splitlines()) == 4


def test_what_is_logged_of_the_gradients(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    options = (
        "trainer.epochs=1",
        "tasks=[semseg, depth, normals]",
        "model.heads={}",
        "weighting.weights={depth: 2}",
    )
    trainer = make_trainer(tmp_path, *options, "balancing={type: sum, scope: features}")
    trainer.fit()
    logged = [line for line in lines(tmp_path) if "loss" in line]
    for line in logged:
        assert line["weights"] == {"semseg": 1, "depth": 2, "normals": 1}
        assert all(norm > 0 for norm in line["gradient_norm"].values())
        cosines = line["gradient_cosine"]
        assert list(cosines) == ["semseg/depth", "semseg/normals", "depth/normals"]
        assert all(-1.001 < cosine < 1.001 for cosine in cosines.values())
        assert line["conflict"] == pytest.approx(sum(c < 0 for c in cosines.values()) / 3)
    make_trainer(tmp_path / "plain").fit()
    assert all("weights" not in line for line in lines(tmp_path / "plain"))


def test_what_is_logged(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    make_trainer(tmp_path, "logging.tensorboard=true", "logging.pictures=2").fit()
    assert [(line["split"], line["step"], line["epoch"]) for line in lines(tmp_path)][:5] == [
        ("train", 2, 0), ("train", 4, 0), ("train", 6, 0), ("train", 6, 1), ("val", 6, 1)
    ]  # fmt: skip
    speeds = [
        json.loads(s)
        for s in (tmp_path / "metrics.jsonl").read_text().splitlines()
        if '"speed"' in s
    ]
    assert [line["images_per_second"] > 0 for line in speeds] == [True, True]
    assert sorted(os.listdir(tmp_path / "pictures")) == ["epoch_0001.jpg", "epoch_0002.jpg"]
    assert len(list((tmp_path / "tensorboard").glob("events*"))) == 1


def test_bf16(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(
        tmp_path, "trainer.precision=bf16", "trainer.channels_last=true", "trainer.clip_grad=null"
    )
    trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.parameters)
    assert not any(key.startswith("_orig_mod") for key in trainer.model.state_dict())


# Mixtures of data sets without a common task


MIXED = (
    "data.sampling=temperature",
    "trainer.epochs=2",
    "trainer.accumulate=2",
    "trainer.ema=0.9",
    "balancing={type: pcgrad}",
    "logging.every=1",
)  # an epoch: 9 samples of streets and 7 of halls, in 8 batches and 4 steps


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_of_a_mixture_is_exact(
    workers: int,
    mixture: tuple[str, ...],
    tmp_path: Path,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    add_dropout: AddDropout,
) -> None:
    """In the second epoch, where the larger set goes on in the middle of its own round."""
    add_dropout(monkeypatch)
    make_trainer(tmp_path / "whole", *mixture, *MIXED).fit()
    with monkeypatch.context() as patch:
        stop_in_step(patch, 6)
        with pytest.raises(Interrupted):
            make_trainer(tmp_path / "parts", *mixture, *MIXED, f"data.workers={workers}").fit()
    last = tmp_path / "parts" / "checkpoints" / "last.pt"
    saved = load_checkpoint(last)["progress"]
    assert (saved["epoch"], saved["batch"], saved["step"]) == (1, 4, 6)
    make_trainer(tmp_path / "parts", *mixture, *MIXED, resume=last).fit()
    assert_same_run(tmp_path / "parts", tmp_path / "whole", ".config")
    assert lines(tmp_path / "whole")[-1]["step"] == 8


def test_tasks_of_a_mixture_are_counted_apart(
    mixture: tuple[str, ...], tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    for sampling, expected in (("size", (10, 6)), ("even", (8, 8)), ("temperature", (9, 7))):
        folder = tmp_path / sampling
        make_trainer(
            folder,
            *mixture,
            f"data.sampling={sampling}",
            "trainer.epochs=1",
            "trainer.batch_size=4",
        ).fit()
        (epoch,) = [
            line for line in lines(folder) if "samples" in line and line["split"] == "train"
        ]
        assert epoch["samples"] == dict(zip(("semseg", "depth"), expected, strict=True))
        assert epoch["epoch_loss"].keys() == {"semseg", "depth"}


def test_what_is_printed_of_a_mixture(
    mixture: tuple[str, ...], tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    file = io.StringIO()
    options = ("data.sampling=even", "trainer.epochs=1")
    make_trainer(tmp_path, *mixture, *options, console=Console(file=file), limit_batches=1).fit()
    first = "samples of an epoch: 8 (50%) from the 10 of streets, 8 (50%) from the 6 of halls"
    assert file.getvalue().splitlines()[0] == first


def test_a_step_without_a_task_says_nothing_of_its_gradient(
    mixture: tuple[str, ...],
    tmp_path: Path,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one sample per step the other task is always absent: its row is nan, and the balancer
    sees one task.
    """
    options = (
        "trainer.epochs=1",
        "trainer.batch_size=1",
        "balancing={type: pcgrad}",
        "logging.every=1",
    )
    trainer = make_trainer(tmp_path, *mixture, *options)
    real, seen = Trainer.train_step, []

    def step(self: Trainer, micro_batches: Any) -> Any:
        losses = real(self, micro_batches)
        balance = self.parts.balance
        assert balance is not None
        (batch,) = micro_batches
        seen.append((batch.annotated, balance.gramian.clone(), balance.weights.clone()))
        return losses

    monkeypatch.setattr(Trainer, "train_step", step)
    trainer.fit()
    assert len(seen) == 16
    for annotated, gramian, weights in seen:
        present, absent = (0, 1) if annotated["semseg"] else (1, 0)
        assert list(annotated.values()) == [1 - present, present]
        assert gramian[present, present] > 0
        assert gramian[absent].isnan().all()
        assert gramian[:, absent].isnan().all()
        assert weights[present] == 1
    logged = [line for line in lines(tmp_path) if "loss" in line]
    assert [
        list(line["loss"]) == list(line["gradient_norm"]) and len(line["loss"]) == 1
        for line in logged
    ] == [True] * 16
    assert {task for line in logged for task in line["loss"]} == {"semseg", "depth"}
    assert all(line["gradient_cosine"] == {} and "conflict" not in line for line in logged)
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


def test_a_head_stays_as_it_is_in_steps_without_its_task(
    mixture: tuple[str, ...], tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    """Its gradient is exactly zero, so plain gradient descent does not touch it."""
    options = (
        "optimizer={name: sgd, weight_decay: 0.0}",
        "trainer.epochs=1",
        "schedule={warmup_epochs: 0.0}",
    )
    trainer = make_trainer(
        tmp_path, *mixture, *options, "data.sets.1.train='train[:1]'", "balancing={type: pcgrad}"
    )
    (batch,) = [b for b in trainer.loaders.train if b.annotated["depth"]]
    start = {name: value.clone() for name, value in trainer.model.heads["depth"].named_parameters()}
    others = [b for b in trainer.loaders.train if b.sample_ids != batch.sample_ids]
    for other in others:
        trainer.train_step([other])
    assert all(
        torch.equal(value, start[name])
        for name, value in trainer.model.heads["depth"].named_parameters()
    )
    trainer.train_step([batch])
    assert not all(
        torch.equal(value, start[name])
        for name, value in trainer.model.heads["depth"].named_parameters()
    )


def test_evaluation_gives_each_task_the_samples_of_its_sets(
    mixture: tuple[str, ...], tmp_path: Path, make_config: Any, make_trainer: MakeTrainer
) -> None:
    """Images of the two sets differ in size; every task has the value that its set alone gives."""
    trainer = make_trainer(tmp_path, *mixture, "trainer.epochs=1", "trainer.eval_batch_size=3")
    results = trainer.fit()
    assert trainer.num_val_batches == 2
    assert results["samples"] == {"total": 5, "semseg": 3, "depth": 2}
    for source in make_config(*mixture).data.sets:
        data = open_folder(source.root, "val")
        (spec,) = data.tasks
        loader, _ = make_loader(
            data, data.tasks, build_transform(data.tasks, []), batch_size=1, train=False
        )
        alone = evaluate(trainer.evaluated_model, loader, torch.device("cpu"), tasks=data.tasks)
        assert alone is not None
        numbers = {key: value for key, value in alone[spec.name].items() if key != "per_class"}
        assert numbers == pytest.approx({key: results[spec.name][key] for key in numbers}, rel=1e-4)


def test_sizes_of_batches_in_training_and_evaluation(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    sizes: list[tuple[int, int]] = []
    for i, options in enumerate(
        ((), ("trainer.eval_batch_size=3",), ("trainer.eval_batch_size=1",))
    ):
        trainer = make_trainer(tmp_path / str(i), *options)
        sizes.append((len(trainer.loaders.train), len(trainer.loaders.val)))
    assert sizes == [(6, 2), (6, 1), (6, 3)]  # 12 and 3 samples, batches of 2


def test_data_sets_with_other_classes_share_a_head(
    mixture: tuple[str, ...], tmp_path: Path, make_config: Any, make_trainer: MakeTrainer
) -> None:
    """A set that knows two more classes and not all of the first's: the run trains and
    evaluates.
    """
    streets = Path(make_config(*mixture).data.sets[0].root)
    parks = tmp_path / "parks"
    shutil.copytree(streets, parks)
    (parks / "dataset.yaml").write_text(
        (parks / "dataset.yaml").read_text().replace("[road, car, tree]", "[tree, grass, pond]")
    )
    sets = f"[{{type: folder, name: streets, root: {streets}}}, {{type: folder, name: parks, root: {parks}}}]"
    data = f"data={{type: mixture, workers: 0, sets: {sets}}}"
    options = (data, "tasks=null", "model.heads={semseg: {channels: 8}}", "trainer.epochs=1")
    trainer = make_trainer(tmp_path / "b", *options)
    assert [spec.classes for spec in trainer.tasks] == [("road", "car", "tree", "grass", "pond")]
    results = trainer.fit()
    assert results["samples"] == {"total": 6, "semseg": 6}
    assert results["semseg"]["num_classes_present"] == 5
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    smoothing = "losses={semseg: {type: cross_entropy, label_smoothing: 0.1}}"
    with pytest.raises(
        ValueError, match=r"losses\.semseg\.label_smoothing: must be 0, set .streets. lacks classes"
    ):
        make_trainer(tmp_path / "c", *options, smoothing).fit()

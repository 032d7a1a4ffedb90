from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from visionmtl.cli.main import main
from visionmtl.config.load import dump_config
from visionmtl.config.schema import Config
from visionmtl.engine.build import build_model
from visionmtl.engine.distributed import World, join_world
from visionmtl.engine.run import build_trainer
from visionmtl.engine.trainer import Trainer
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.zoo.checkpoints import load_checkpoint

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")


def launch(config: Config, folder: Path, *arguments: str, processes: int = 2) -> list[int | None]:
    """The exit codes of ``visionmtl train`` in so many processes, as ``torchrun`` starts them;
    forked: no imports.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(dump_config(config))
    words = [
        "train",
        str(folder / "tiny.yaml"),
        "--output-dir",
        str(folder / "run"),
        "--device",
        "cpu",
        *arguments,
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        os.environ.update(
            {key: str(value) for key, value in values.items()}, MASTER_ADDR="127.0.0.1"
        )
        output = os.open(folder / f"output_{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        main(words)

    context = multiprocessing.get_context("fork")
    started = [context.Process(target=work, args=(rank,)) for rank in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join(150)
        process.kill()
    return [process.exitcode for process in started]


def records(folder: Path, key: str) -> list[dict[str, Any]]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if key in record]


def weights(folder: Path, name: str = "last") -> torch.Tensor:
    state = load_checkpoint(folder / "run" / "checkpoints" / f"{name}.pt")["model"]
    return torch.cat([value.double().flatten() for value in state.values()])


@pytest.fixture
def frozen_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm sees only the samples of its own process; with fixed statistics all samples are
    apart.
    """

    def forward(self: torch.nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", forward)


COMMON = (
    "trainer.epochs=1",
    "data.train.drop_labels={depth: 0.7}",
    "data.val.samples=5",
    "optimizer={name: sgd, lr: 0.1}",
    "schedule={warmup_epochs: 0.0}",
    "trainer.ema=0.5",
    "logging.every=1",
)


@pytest.mark.usefixtures("frozen_batch_norm")
@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ((), ("trainer.batch_size=2",)),
        (("balancing={type: pcgrad}",), ("trainer.batch_size=1", "trainer.accumulate=2")),
    ],
    ids=["plain", "balanced"],
)
def test_two_processes_see_what_one_with_twice_the_batch_sees(
    options: tuple[str, ...], batch: tuple[str, ...], make_config: MakeConfig, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert launch(make_config(*COMMON, *options, "trainer.batch_size=4"), one, processes=1) == [0]
    assert launch(make_config(*COMMON, *options, *batch), two) == [0, 0], (
        two / "output_1.txt"
    ).read_text()
    start = torch.cat(
        [v.double().flatten() for v in fresh_model(make_config(*COMMON)).state_dict().values()]
    )
    assert (weights(one) - start).abs().max() > 1e-2
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-5, atol=1e-6)
    assert load_checkpoint(two / "run/checkpoints/last.pt")["progress"]["step"] == 3
    for key in ("loss", "epoch_loss", "score"):
        for ours, theirs in zip(records(two, key), records(one, key), strict=True):
            assert flat(ours) == pytest.approx(flat(theirs), rel=1e-3, abs=1e-3)
    assert records(two, "score")[-1]["samples"]["total"] == 5
    assert (two / "run/model/config.json").exists()
    assert (two / "output_1.txt").read_text() == ""


@pytest.mark.usefixtures("frozen_batch_norm")
@pytest.mark.parametrize("options", [(), ("balancing={type: pcgrad}",)], ids=["plain", "balanced"])
def test_two_processes_train_a_mixture_as_one_does(
    options: tuple[str, ...], mixture: tuple[str, ...], make_config: MakeConfig, tmp_path: Path
) -> None:
    """Batches of one sample per process: each has another task, or both lack one."""
    common = (*mixture, "data.sampling=temperature", *COMMON[:1], *COMMON[3:], *options)
    one, two = tmp_path / "one", tmp_path / "two"
    assert launch(make_config(*common, "trainer.batch_size=2"), one, processes=1) == [0]
    assert launch(make_config(*common, "trainer.batch_size=1"), two) == [0, 0], (
        two / "output_1.txt"
    ).read_text()
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-5, atol=1e-6)
    assert load_checkpoint(two / "run/checkpoints/last.pt")["progress"]["step"] == 8
    for key in ("loss", "epoch_loss", "score"):
        for ours, theirs in zip(records(two, key), records(one, key), strict=True):
            assert flat(ours) == pytest.approx(flat(theirs), rel=1e-3, abs=1e-3)
    for folder in (one, two):
        (epoch,) = records(folder, "epoch_loss")
        assert epoch["samples"] == {"semseg": 9, "depth": 7}
        assert records(folder, "score")[-1]["samples"] == {"total": 5, "semseg": 3, "depth": 2}
        assert {len(step["loss"]) for step in records(folder, "loss")} == {1, 2}
        if options:
            assert all(
                list(step["loss"]) == list(step["gradient_norm"])
                for step in records(folder, "loss")
            )


def flat(record: Any) -> dict[str, float]:
    if not isinstance(record, dict):
        return {"": 0.0 if record is None or isinstance(record, str) else record}
    return {f"{k}/{name}": v for k, value in record.items() for name, v in flat(value).items()}


def fresh_model(config: Config) -> MultiTaskModel:
    from visionmtl.engine.datasets import build_dataset

    return build_model(config, build_dataset(config, "train").tasks)


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on_exactly(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    add_dropout: Callable[[pytest.MonkeyPatch], None],
) -> None:
    add_dropout(monkeypatch)
    balancing = "balancing={type: gradvac, scope: features, every: 2}"
    config = make_config(*COMMON, balancing, "trainer.batch_size=1", "data.train.samples=10")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert launch(config, whole) == [0, 0]

    real = Trainer.train_step

    def step(self: Trainer, *args: Any) -> Any:
        losses = real(self, *args)
        if self.progress.step == 2 and self.world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        assert launch(config, stopped) == [143, 143]
    last = stopped / "run" / "checkpoints" / "last.pt"
    assert (
        load_checkpoint(last)["progress"]["step"] == 3
    )  # agreed on at the start of the step after the signal
    with pytest.raises(
        ValueError, match=r"last.pt: made by 2 processes, now 1; the batches would be others"
    ):
        build_trainer(config, tmp_path, CPU, resume=last, console=Console(quiet=True))
    assert launch(config, stopped, "--resume", "auto") == [0, 0]
    assert torch.equal(weights(stopped), weights(whole))
    assert [record["loss"] for record in records(stopped, "loss")] == [
        r["loss"] for r in records(whole, "loss")
    ]


def test_a_mistake_of_the_user_ends_every_process(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("data.train.samples=1")
    assert launch(config, tmp_path) == [2, 2]
    assert (
        "1 training samples are too few for 2 processes" in (tmp_path / "output_0.txt").read_text()
    )
    (tmp_path / "run" / "note.txt").write_text("mine")
    assert launch(make_config(), tmp_path) == [2, 2]
    for rank in range(2):
        output = (tmp_path / f"output_{rank}.txt").read_text()
        assert re.fullmatch(
            rf"\[rank {rank}\] visionmtl: error: --output-dir: '.*run' is not empty.*\n", output
        )


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    world, tensor = World(), torch.ones(2)
    world.sum_([tensor])
    world.broadcast_([tensor])
    assert tensor.tolist() == [1, 1]
    assert world.sum_host([1, 2]) == [1, 2]
    assert world.gather("a") == ["a"]
    assert world.from_main(lambda: 3) == 3
    assert world.is_main
    assert world.parallel(model := torch.nn.Linear(1, 1), find_unused=False) is model
    with join_world(CPU) as (joined, device):
        assert (joined.rank, joined.size, device) == (0, 1, CPU)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(
            ValueError, match="several processes work on CUDA devices or the CPU, not on mps"
        ),
        join_world(torch.device("mps")),
    ):
        pass

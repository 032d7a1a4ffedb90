from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from visionmtl import load_model
from visionmtl._errors import RunError
from visionmtl._yaml import ConfigError
from visionmtl.cli.main import main
from visionmtl.config.load import dump_config, load_config
from visionmtl.config.schema import Config
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.engine import run_folder as module
from visionmtl.engine.run import train
from visionmtl.engine.trainer import Trainer
from visionmtl.types import Sample
from visionmtl.zoo.checkpoints import load_checkpoint
from visionmtl.zoo.folder import restore_model

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")


def start(config: Config, name: str = "tiny", **options: Any) -> tuple[Path, str]:
    """The folder of a finished run, and what was printed."""
    file = io.StringIO()
    folder = train(config, name, device=CPU, console=Console(file=file, width=80), **options)
    return folder, file.getvalue()


@pytest.fixture(scope="module")
def finished(
    make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Config, str]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("finished")
    config = make_config(
        f"output_dir={root}", "trainer.ema=0.5", "logging.tensorboard=true", "logging.pictures=1"
    )
    folder, printed = start(config)
    return folder, config, printed


def test_a_run_folder_is_complete(finished: tuple[Path, Config, str]) -> None:
    folder, config, printed = finished
    assert re.fullmatch(r"tiny-\d{8}-\d{6}", folder.name)
    assert sorted(os.listdir(folder)) == [
        "checkpoints", "config.yaml", "env.json", "metrics.jsonl", "model", "pictures", "tensorboard"
    ]  # fmt: skip
    assert sorted(os.listdir(folder / "checkpoints")) == [
        "best.pt",
        "best.pt.sha256",
        "last.pt",
        "last.pt.sha256",
    ]
    assert load_config(folder / "config.yaml") == config
    (env,) = json.loads((folder / "env.json").read_text())
    assert env["packages"]["timm"]
    assert printed.splitlines()[-1] == f"done: the best model is in {folder / 'model'}"
    assert "test_resnet -> fpn (8 channels) -> 2 heads, hard sharing: " in printed
    assert f"run folder {folder}" in printed.splitlines()


def test_the_model_has_the_best_weights(finished: tuple[Path, Config, str]) -> None:
    folder = finished[0]
    model = load_model(str(folder / "model"))
    best = load_checkpoint(folder / "checkpoints" / "best.pt")
    reference = restore_model(best["model_config"], best["tasks"], best["ema"], folder)
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    )
    with torch.no_grad():
        ours, theirs = model(images), reference(images)
    assert all(torch.equal(ours[task], theirs[task]) for task in ("semseg", "depth"))
    record = json.loads((folder / "model" / "config.json").read_text())["record"]
    assert record["metrics"]["depth"]["rmse"] == pytest.approx(best["results"]["depth"]["rmse"])
    assert record["command"].startswith("python ")
    assert (folder / "model" / "README.md").read_text().startswith("# test_resnet, 2 tasks")


def test_its_config_trains_again_to_the_same_result(
    finished: tuple[Path, Config, str], tmp_path: Path
) -> None:
    again, _ = start(load_config(finished[0] / "config.yaml"), output_dir=tmp_path / "again")
    weights = [
        (folder / "model" / "model.safetensors").read_bytes() for folder in (finished[0], again)
    ]
    assert weights[0] == weights[1]


def test_resume_auto_of_a_finished_run_publishes_again(finished: tuple[Path, Config, str]) -> None:
    folder, config, _ = finished
    (folder / "model" / "README.md").unlink()
    again, printed = start(config, resume="auto")
    assert again == folder
    assert printed.startswith(f"resuming from {folder}/checkpoints/last.pt\n")
    assert (folder / "model" / "README.md").exists()
    assert len(json.loads((folder / "env.json").read_text())) == 2


class StoppedError(Exception):
    pass


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: Trainer) -> None:
        checkpoints = self.callbacks.callbacks[-1]
        raise StoppedError(checkpoints.last.parent.parent)

    monkeypatch.setattr(Trainer, "fit", fit)


@pytest.mark.usefixtures("no_training")
def test_config_is_written_before_the_first_step(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("seed=3")
    with pytest.raises(StoppedError):
        start(config, output_dir=tmp_path / "new" / "run")
    assert (tmp_path / "new" / "run" / "config.yaml").read_text() == dump_config(config)
    assert (tmp_path / "new" / "run" / "env.json").exists()


@pytest.mark.usefixtures("no_training")
def test_two_runs_in_one_second(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(module, "datetime", Clock)
    for _ in range(3):
        with pytest.raises(StoppedError):
            start(make_config(f"output_dir={tmp_path}"))
    names = ["tiny-20260102-030405", "tiny-20260102-030405-2", "tiny-20260102-030405-3"]
    assert sorted(os.listdir(tmp_path)) == names


@pytest.mark.usefixtures("no_training")
def test_resume_auto_without_a_checkpoint_says_so(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(f"output_dir={tmp_path}")
    for folder in (None, tmp_path / "empty"):
        with pytest.raises(StoppedError):
            train(config, "tiny", resume="auto", device=CPU, console=Console(), output_dir=folder)
        assert capsys.readouterr().out.startswith("no checkpoint to resume from: starting fresh\n")


@pytest.mark.usefixtures("no_training")
def test_resume_auto_takes_the_newest_run_of_this_config_only(
    finished: tuple[Path, Config, str], tmp_path: Path
) -> None:
    config = finished[1].model_copy(update={"output_dir": str(tmp_path)})
    names = [
        "tiny-20260101-000000",
        "tiny-20260102-000000",
        "tiny-large-20260103-000000",
        "tiny-20260104-000000",
    ]
    for i, name in enumerate(names):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        if i < 3:
            for file in ("last.pt", "last.pt.sha256"):
                data = (finished[0] / "checkpoints" / file).read_bytes()
                (tmp_path / name / "checkpoints" / file).write_bytes(data)
            os.utime(tmp_path / name / "checkpoints" / "last.pt", (i, i))
    with pytest.raises(StoppedError, match=str(tmp_path / names[1])):
        start(config, resume="auto")


def refused(message: str, config: Config, **options: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        start(config, **options)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, RunError)


def test_folders_that_are_refused(
    finished: tuple[Path, Config, str], make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    hint = "give --resume auto to continue it, or another --output-dir"
    refused(f"--output-dir: '.*full' is not empty; {hint}", config, output_dir=tmp_path / "full")
    refused("--output-dir: '.*file' is a file", config, output_dir=tmp_path / "file")
    refused("--output-dir: '.*sub' cannot be written", config, output_dir=tmp_path / "file" / "sub")
    refused("output_dir: '.*' cannot be made", make_config(f"output_dir={tmp_path / 'file'}"))
    last = finished[0] / "checkpoints" / "last.pt"
    refused(f"is not empty; {hint}", finished[1], output_dir=tmp_path / "full", resume=str(last))
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert os.listdir(tmp_path / "full") == ["notes.txt"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(make_config: MakeConfig, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    refused("--output-dir: '.*' cannot be written", make_config(), output_dir=tmp_path / "run")
    tmp_path.chmod(0o755)


def test_resume_from_a_path(
    finished: tuple[Path, Config, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config, _ = finished
    refused("--resume: no file 'none.pt'; give a checkpoint", config, resume="none.pt")
    for name in ("last.pt", "last.pt.sha256"):
        (tmp_path / name).write_bytes((folder / "checkpoints" / name).read_bytes())
    refused(
        "--resume: '.*last.pt' lies in no run folder; say where",
        config,
        resume=str(tmp_path / "last.pt"),
    )
    other, _ = start(config, resume=str(tmp_path / "last.pt"), output_dir=tmp_path / "other")
    assert sorted(os.listdir(other / "checkpoints")) == sorted(os.listdir(folder / "checkpoints"))
    assert (other / "model" / "config.json").exists()
    monkeypatch.chdir(folder / "checkpoints")
    again, _ = start(config, resume="last.pt")
    assert again == folder.resolve()
    changed = config.model_copy(update={"seed": 9})
    refused(
        "these keys differ: seed: 0 -> 9", changed, resume=str(folder / "checkpoints" / "last.pt")
    )
    assert load_config(folder / "config.yaml") == config


def test_a_config_that_fits_no_model_leaves_no_folder(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^override optimizer\.name: unknown optimiser 'adamww'"):
        make_config(f"output_dir={tmp_path}", "optimizer.name=adamww")
    config = make_config(f"output_dir={tmp_path}", "weighting={type: famo, min_losses: [1]}")
    refused("min_losses must be one number for each of 2 tasks", config)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_cannot_be_read_in_the_middle_of_a_run(
    workers: int, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RoomsDataset.__getitem__

    def read(self: RoomsDataset, index: int) -> Sample:
        if index == 7:
            raise ValueError("rooms/train/rgb/7.jpg: truncated file")
        return real(self, index)

    monkeypatch.setattr(RoomsDataset, "__getitem__", read)
    with pytest.raises(RunError, match=r"^rooms/train/rgb/7.jpg: truncated file$"):
        start(make_config(f"data.workers={workers}"), output_dir=tmp_path / "run")


def run_command(arguments: list[str], stderr: Path) -> None:
    """``visionmtl`` in a forked process, which needs no seconds for imports."""
    torch.set_num_threads(1)
    for stream, file in ((1, Path(os.devnull)), (2, stderr)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    main(arguments)


def wait_for_step(folder: Path, step: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        path = folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"{folder} does not reach step {step}")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_processes_that_are_killed_and_stopped(make_config: MakeConfig, tmp_path: Path) -> None:
    """SIGKILL between two checkpoints, then resumed and SIGTERM, then resumed: the run of one that
    went through.
    """
    config = make_config(
        "data.workers=1",
        "data.train.samples=24",
        "trainer.checkpoint_every=6",
        "logging.every=1",
        "trainer.ema=0.9",
    )
    (tmp_path / "tiny.yaml").write_text(dump_config(config))
    folder, stderr = tmp_path / "run", tmp_path / "stderr.txt"

    def launch(*arguments: str) -> Any:
        words = [
            "train",
            str(tmp_path / "tiny.yaml"),
            "--output-dir",
            str(folder),
            "--device",
            "cpu",
            *arguments,
        ]
        process = multiprocessing.get_context("fork").Process(
            target=run_command, args=(words, stderr)
        )
        process.start()
        return process

    process = launch()
    wait_for_step(folder, 8)
    workers = children(process.pid)
    process.kill()
    process.join()
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["progress"]["step"] % 6 == 0
    process = launch("--resume", "auto")
    wait_for_step(folder, 15)
    workers += children(process.pid)
    process.terminate()
    process.join(60)
    assert process.exitcode == 143
    last = stderr.read_text().splitlines()[-1]
    assert re.fullmatch(
        r"visionmtl: stopped at step \d+, saved; resume with --resume .*/run/checkpoints/last.pt",
        last,
    )
    end = time.monotonic() + 15
    while any(is_alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert workers
    assert not any(is_alive(worker) for worker in workers)

    start(config, output_dir=folder, resume="auto")
    whole, _ = start(config, output_dir=tmp_path / "whole")
    logs = [
        [line for line in (f / "metrics.jsonl").read_text().splitlines() if '"speed"' not in line]
        for f in (folder, whole)
    ]
    assert logs[0] == logs[1]
    weights = [(f / "model" / "model.safetensors").read_bytes() for f in (folder, whole)]
    assert weights[0] == weights[1]


def test_out_of_memory_comes_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig
) -> None:
    def fit(self: Trainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore text")

    monkeypatch.setattr(Trainer, "fit", fit)
    with pytest.raises(RunError, match=r"^CUDA out of memory.*trainer\.batch_size"):
        train(
            make_config(),
            "tiny",
            output_dir=tmp_path / "run",
            device=torch.device("cpu"),
            console=Console(),
        )

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from rich.console import Console
from torch import nn

from visionmtl import zoo
from visionmtl.engine.checkpoint import save_checkpoint
from visionmtl.models import factory
from visionmtl.models.folder import save_model
from visionmtl.types import TaskSpec
from visionmtl.zoo import ModelEntry, describe_files, fetch, list_models, load_model, read_registry

REAL_FACTORY = factory.create_model_from_config
SPECS = [TaskSpec.semseg(["wall", "door"]), TaskSpec.depth(5.0)]


class Fake(nn.Module):
    def __init__(self, width: int = 300) -> None:
        super().__init__()
        self.config, self.tasks = {"width": width}, SPECS
        self.layer = nn.Linear(width, width)


class Server:
    """A loopback server: path -> body, or a function that answers; counts requests and keeps their headers."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None] | bytes] = {
            f"/m/{path.name}": path.read_bytes() for path in folder.iterdir()
        }
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers.get("Range")))
                answer = outer.answers.get(self.path)
                if answer is None:
                    self.send_error(404)
                elif callable(answer):
                    answer(self)
                else:
                    send(self, answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def ranges(self, name: str = "model.safetensors") -> list[str | None]:
        return [asked for path, asked in self.requests if path == f"/m/{name}"]


def send(handler: http.server.BaseHTTPRequestHandler, body: bytes, announced: int = -1, ranges: bool = True) -> None:
    """Answer with ``body``; honours a Range header unless told not to."""
    asked = handler.headers.get("Range") if ranges else None
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    handler.send_response(206 if asked else 200)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", str(announced if announced >= 0 else len(body) - start))
    handler.end_headers()
    handler.wfile.write(body[start:])


def status(code: int, body: bytes = b"<html>sorry</html>", **headers: str) -> Callable[..., None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "create_model_from_config", lambda config: Fake(**config))
    monkeypatch.setattr(zoo, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setenv("VISIONMTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    write_registry(tmp_path, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(Fake(), tmp_path / "checkpoints" / "rooms", card="# Rooms [/model]\n\nA *card*.")
    return tmp_path / "checkpoints" / "rooms"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    running = Server(folder)
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def remote(server: Server, folder: Path, tmp_path: Path) -> ModelEntry:
    return entry_of(tmp_path, folder, source=f"{server.url}/m")


def write_registry(root: Path, models: dict[str, Any], version: int = 1) -> Path:
    (root / "checkpoints").mkdir(exist_ok=True)
    path = root / "checkpoints" / "registry.json"
    path.write_text(json.dumps({"format_version": version, "models": models}))
    return path


def values_of(folder: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "source": "rooms",
        "files": describe_files(folder),
        "tasks": ["semseg", "depth"],
        "metrics": {"semseg/miou": 0.41234, "depth/rmse": 1},
        "licence": "Apache-2.0",
        "data": "procedural rooms [seed 0]",
        "command": "visionmtl train [/x] --a",
    }
    return {**values, **changes}


def entry_of(root: Path, folder: Path, name: str = "rooms-r18", **changes: Any) -> ModelEntry:
    write_registry(root, {name: values_of(folder, **changes)})
    return read_registry()[name]


def visible(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*") if path.is_file() and not path.name.startswith("."))


def hidden(home: Path) -> list[Path]:
    return [path for path in home.rglob(".*") if path.is_file()]


def rendered(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


# Registry


def test_packaged_registry_is_valid_and_local_files_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for entry in read_registry().values():
        if not entry.source.startswith(("https://", "hf://")):
            fetch(entry)


def test_registry_round_trip(tmp_path: Path, folder: Path) -> None:
    entry = entry_of(tmp_path, folder)
    assert list_models() == ["rooms-r18"]
    assert entry.tasks == ("semseg", "depth")
    assert entry.files["config.json"].size == (folder / "config.json").stat().st_size
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "../x"}, r"models\.m\.source: .*must be a folder of the package"),
        ({"source": "/etc"}, r"models\.m\.source"),
        ({"source": "a/../../x"}, r"models\.m\.source"),
        ({"source": "http://example.com/m"}, r"models\.m\.source"),
        ({"source": "ftp://example.com/m"}, r"models\.m\.source"),
        ({"source": "file:///etc"}, r"models\.m\.source"),
        ({"source": "https:///m"}, r"models\.m\.source"),
        ({"source": "https://example.com/m?token=1"}, r"models\.m\.source"),
        ({"source": "hf://owner"}, r"models\.m\.source"),
        ({"source": "hf://owner/repo@main/../x"}, r"models\.m\.source"),
        ({"colour": "red"}, r"models\.m\.colour: Unexpected keyword argument, got 'red'"),
        ({"tasks": []}, r"models\.m\.tasks"),
        ({"licence": 3}, r"models\.m\.licence: .*string, got 3"),
        ({"metrics": {"miou": "high"}}, r"models\.m\.metrics\.miou"),
        ({"files": {}}, r"models\.m\.files: .*lacks README\.md, config\.json, model\.safetensors"),
    ],
)
def test_bad_registry_values_are_named(tmp_path: Path, folder: Path, changes: dict[str, Any], message: str) -> None:
    path = write_registry(tmp_path, {"m": values_of(folder, **changes)})
    with pytest.raises(ValueError, match=message) as caught:
        read_registry(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "rooms",
        "a/b",
        "https://example.com/a/b",
        "hf://o/r",
        "hf://o/r@main",
        "hf://o/r@v1.0/sub/folder",
        "hf://o/r/sub",
    ],
)
def test_good_sources(tmp_path: Path, folder: Path, source: str) -> None:
    assert entry_of(tmp_path, folder, source=source).source == source


@pytest.mark.parametrize("name", ["../../x", "Upper", "", ".hidden", "a/b", "a" * 81, "a b", "a\n"])
def test_bad_model_names(tmp_path: Path, folder: Path, name: str) -> None:
    path = write_registry(tmp_path, {name: values_of(folder)})
    with pytest.raises(ValueError, match="name: String should"):
        read_registry(path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ".hidden", "a/b", "..", "a\\b"])
def test_bad_file_names(tmp_path: Path, folder: Path, name: str) -> None:
    files = {**describe_files(folder), name: {"sha256": "0" * 64, "size": 1}}
    path = write_registry(tmp_path, {"m": values_of(folder, files=files)})
    with pytest.raises(ValueError, match=r"models\.m\.files"):
        read_registry(path)


def test_bad_file_entries_and_registry_files(tmp_path: Path, folder: Path) -> None:
    for bad in ({"sha256": "0" * 63, "size": 1}, {"sha256": "0" * 64, "size": -1}, {"sha256": "0" * 64, "size": 1.5}):
        path = write_registry(tmp_path, {"m": values_of(folder, files={**describe_files(folder), "x": bad})})
        with pytest.raises(ValueError, match=r"models\.m\.files\.x\.(sha256|size)"):
            read_registry(path)
    with pytest.raises(ValueError, match="format_version 2, expected 1"):
        read_registry(write_registry(tmp_path, {}, version=2))
    with pytest.raises(ValueError, match=r"models\.m must be an object"):
        read_registry(write_registry(tmp_path, {"m": 3}))
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be an object with 'format_version' and 'models'"):
        read_registry(path)


# Local sources


def test_load_a_zoo_name(tmp_path: Path, folder: Path) -> None:
    entry_of(tmp_path, folder)
    model = load_model("rooms-r18")
    assert isinstance(model, Fake)
    assert not model.training
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "README.md"])
def test_one_wrong_byte_is_refused_and_named(tmp_path: Path, folder: Path, file: str) -> None:
    entry_of(tmp_path, folder)
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(ValueError, match=f"{folder / file}: damaged: wrong sha256"):
        load_model("rooms-r18")
    (folder / file).write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"{folder / file}: {len(data) - 1} bytes, expected {len(data)}"):
        load_model("rooms-r18")
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f"{folder / file}: no such file"):
        load_model("rooms-r18")


def test_registry_of_other_tasks(tmp_path: Path, folder: Path) -> None:
    entry_of(tmp_path, folder, tasks=["depth", "semseg"])
    with pytest.raises(ValueError, match=r"rooms-r18: the registry lists the tasks \('depth', 'semseg'\)"):
        load_model("rooms-r18")


# Paths


def test_load_folders(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(Fake(3), tmp_path / "run" / "model")
    assert load_model(folder).config["width"] == 300
    assert load_model(str(folder)).config["width"] == 300
    assert load_model(tmp_path / "run").config["width"] == 3
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model("~/run").config["width"] == 3


def test_zoo_name_wins_over_a_folder_of_that_name_unless_a_path(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_of(tmp_path, folder)
    save_model(Fake(3), tmp_path / "rooms-r18")
    monkeypatch.chdir(tmp_path)
    assert load_model("rooms-r18").config["width"] == 300
    assert load_model(Path("rooms-r18")).config["width"] == 3


def test_something_else_says_what_was_looked_for(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry_of(tmp_path, folder)
    with pytest.raises(
        ValueError, match=r"'rooms-r81': looked for a zoo name, .* does not exist; did you mean 'rooms-r18'\? zoo: "
    ):
        load_model("rooms-r81")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is none of these; zoo: rooms-r18"):
        load_model(tmp_path / "empty")
    monkeypatch.chdir(folder)  # the empty string is not the current folder
    for name in ("", "../../x", "\0", "x" * 5000, "rooms-r18/../../../etc"):
        with pytest.raises(ValueError, match="does not exist"):
            load_model(name)


# Checkpoints


def checkpoint(of: Fake, **changes: Any) -> dict[str, Any]:
    tasks = [task.to_dict() for task in SPECS]
    return {"model_config": of.config, "tasks": tasks, "model": of.state_dict(), "ema": None, **changes}


def test_load_checkpoint_prefers_ema(tmp_path: Path) -> None:
    model, path = Fake(3), tmp_path / "last.pt"
    ema = {key: value + 1 for key, value in model.state_dict().items()}
    save_checkpoint(path, checkpoint(model))
    assert torch.equal(load_model(path).layer.weight, model.layer.weight)
    for values in (checkpoint(model, ema=ema), checkpoint(model, ema=ema, model=None)):
        save_checkpoint(path, values)
        loaded = load_model(str(path))
        assert torch.equal(loaded.layer.weight, ema["layer.weight"])
        assert not loaded.training


def test_bad_checkpoints(tmp_path: Path) -> None:
    model, path = Fake(3), tmp_path / "last.pt"
    bad = ({"model": None}, {"model": 3}, {"model": [1]}, {"model_config": None}, {"model_config": []}, {"tasks": None})
    for values in ({"state_dict": {}}, *(checkpoint(model, **changes) for changes in bad)):
        save_checkpoint(path, values)
        with pytest.raises(ValueError, match=r"last\.pt: not a training checkpoint"):
            load_model(path)
    save_checkpoint(path, checkpoint(model, model=Fake(4).state_dict()))
    with pytest.raises(ValueError, match=r"last\.pt: the weights do not fit the model: 2 different \(layer\.weight"):
        load_model(path)
    save_checkpoint(path, checkpoint(model, model={f"module.{k}": v for k, v in model.state_dict().items()}))
    with pytest.raises(ValueError, match=r"every key starts with 'module\.'"):
        load_model(path)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"format_version": 1, **checkpoint(Fake(3), best=Malicious(tmp_path / "touched"))}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"last\.pt"):
        load_model(tmp_path / "last.pt")
    assert not (tmp_path / "touched").exists()


# Downloads


def test_download_once_then_from_the_cache(remote: ModelEntry, server: Server, tmp_path: Path) -> None:
    model = load_model("rooms-r18")
    assert not model.training
    assert visible(tmp_path / "home") == ["README.md", "config.json", "model.safetensors"]
    assert hidden(tmp_path / "home") == []
    server.http.shutdown()
    assert torch.equal(load_model("rooms-r18").layer.weight, model.layer.weight)
    assert len(server.requests) == 3


def test_cache_dir_argument(remote: ModelEntry, tmp_path: Path) -> None:
    assert fetch(remote, tmp_path / "elsewhere").is_relative_to(tmp_path / "elsewhere")
    assert not (tmp_path / "home").exists()


def test_damaged_cache_is_downloaded_again(remote: ModelEntry) -> None:
    path = fetch(remote) / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(b"\0" + good[1:])
    fetch(remote)
    assert path.read_bytes() == good


BODY = "/m/model.safetensors"


def bad_answers() -> dict[str, tuple[Callable[[bytes], Any], str]]:
    return {
        "404": (lambda body: status(404), "HTTP Error 404"),
        "500": (lambda body: status(500), "HTTP Error 500"),
        "html": (lambda body: status(200, Content_Type="text/html; charset=utf-8"), "HTML page"),
        "wrong sha": (lambda body: b"\0" + body[1:], "damaged: wrong sha256; nothing was kept"),
        "short": (lambda body: body[:-1], r"announces \d+ bytes, expected \d+"),
        "long": (lambda body: body + b"x", r"announces \d+ bytes, expected \d+"),
        "long, unannounced": (lambda body: status(200, body + b"x" * 9), "more than the expected"),
        "truncated": (lambda body: lambda h: send(h, body[:5000], announced=len(body)), "ended after 5000 of"),
        "to http": (
            lambda body: status(302, Location="http://example.com/m"),
            "refused a redirect to http://example.com",
        ),
        "to file": (lambda body: status(302, Location="file:///etc/passwd"), "(refused a redirect|HTTP Error 302)"),
        "nothing": (lambda body: lambda h: h.connection.close(), "http://127"),
    }


@pytest.mark.parametrize("case", bad_answers())
def test_bad_answer_gives_one_line_and_the_second_try_works(
    remote: ModelEntry, server: Server, tmp_path: Path, case: str
) -> None:
    make, message = bad_answers()[case]
    good = server.answers[BODY]
    server.answers[BODY] = make(good)  # type: ignore[arg-type]
    with pytest.raises((OSError, ValueError), match=message) as caught:
        fetch(remote)
    assert f"{server.url}{BODY}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "model.safetensors" not in visible(tmp_path / "home")
    server.answers[BODY] = good
    assert (fetch(remote) / "model.safetensors").read_bytes() == good
    assert hidden(tmp_path / "home") == []


def test_redirect_within_loopback_is_followed(remote: ModelEntry, server: Server) -> None:
    server.answers["/moved"] = server.answers[BODY]
    server.answers[BODY] = status(302, Location=f"{server.url}/moved")
    fetch(remote)


def test_https_may_not_be_redirected_to_http_not_even_on_this_machine() -> None:
    request = zoo.urllib.request.Request("https://example.com/m")
    for target in ("http://127.0.0.1:1/m", "http://example.com/m"):
        with pytest.raises(OSError, match=f"refused a redirect to {target}"):
            zoo._SafeRedirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, target)
    assert zoo._SafeRedirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://example.org/m?s=1")


@pytest.mark.parametrize("server_knows_ranges", [True, False])
def test_interrupted_download_is_resumed(remote: ModelEntry, server: Server, server_knows_ranges: bool) -> None:
    good = server.answers[BODY]
    assert isinstance(good, bytes)
    server.answers[BODY] = lambda handler: send(handler, good[:200_000], announced=len(good))
    with pytest.raises(OSError, match="the connection ended after 200000 of"):
        fetch(remote)
    server.answers[BODY] = lambda handler: send(handler, good, ranges=server_knows_ranges)
    assert (fetch(remote) / "model.safetensors").read_bytes() == good
    assert server.ranges() == [None, "bytes=200000-"]


def test_resumed_onto_wrong_bytes_is_refused_and_the_next_try_works(
    remote: ModelEntry, server: Server, tmp_path: Path
) -> None:
    good = server.answers[BODY]
    assert isinstance(good, bytes)
    server.answers[BODY] = lambda handler: send(handler, b"\0" * 5000, announced=len(good))
    with pytest.raises(OSError, match="ended after 5000"):
        fetch(remote)
    server.answers[BODY] = good
    with pytest.raises(ValueError, match="wrong sha256; nothing was kept"):
        fetch(remote)
    assert "model.safetensors" not in visible(tmp_path / "home")
    fetch(remote)


def test_wrong_range_is_refused(remote: ModelEntry, server: Server) -> None:
    good = server.answers[BODY]
    server.answers[BODY] = lambda handler: send(handler, good[:5000], announced=len(good))  # type: ignore[index,arg-type]
    with pytest.raises(OSError, match="ended after 5000"):
        fetch(remote)
    server.answers[BODY] = status(206, b"abc", Content_Range="bytes 0-2/3")
    with pytest.raises(OSError, match="another part of the file"):
        fetch(remote)


def test_partial_file_in_use_is_left_alone_and_one_left_by_a_kill_is_resumed(
    remote: ModelEntry, server: Server, tmp_path: Path
) -> None:
    good = server.answers[BODY]
    assert isinstance(good, bytes)
    folder = fetch(remote)
    (folder / "model.safetensors").unlink()
    part = folder / ".model.safetensors.0123.part"
    part.write_bytes(good[:1000])  # just written: another process may be at work
    fetch(remote)
    assert part.exists()
    (folder / "model.safetensors").unlink()
    os.utime(part, (part.stat().st_mtime - 1000,) * 2)
    assert (fetch(remote) / "model.safetensors").read_bytes() == good
    assert not part.exists()
    assert server.ranges() == [None, None, "bytes=1000-"]


def test_keyboard_interrupt_leaves_a_resumable_part(
    remote: ModelEntry, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(url: str, file: Any, size: int) -> None:
        file.write(server.answers[url.removeprefix(server.url)][:10])  # type: ignore[index]
        raise KeyboardInterrupt

    receive = zoo._receive
    monkeypatch.setattr(zoo, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(remote)
    monkeypatch.setattr(zoo, "_receive", receive)
    assert visible(tmp_path / "home") == []
    fetch(remote)
    assert (server.requests[0][1], hidden(tmp_path / "home")) == ("bytes=10-", [])


def test_no_server(remote: ModelEntry, server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:\d+/m/.*refused"):
        fetch(remote)


def test_silent_server_times_out(remote: ModelEntry, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_TIMEOUT", 0.2)
    release = threading.Event()
    server.answers[BODY] = lambda handler: release.wait(5) and None
    with pytest.raises(OSError, match="timed out"):
        fetch(remote)
    release.set()


def test_cache_that_cannot_be_written(remote: ModelEntry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to the cache .*file/models.*: set VISIONMTL_HOME"):
        fetch(remote, tmp_path / "file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_cache(remote: ModelEntry, tmp_path: Path) -> None:
    folder = fetch(remote)
    folder.chmod(0o555)
    fetch(remote)  # nothing to write
    folder.chmod(0o755)
    (folder / "config.json").unlink()
    folder.chmod(0o555)
    with pytest.raises(OSError, match=r"cannot write to the cache .*Permission denied"):
        fetch(remote)
    folder.chmod(0o755)


def test_large_file_shows_progress(
    remote: ModelEntry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "_SHOW_PROGRESS", 1000)
    monkeypatch.setenv("FORCE_COLOR", "1")
    fetch(remote)
    captured = capsys.readouterr()
    assert "model.safetensors" in captured.err
    assert captured.out == ""


def slow(good: bytes) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        threading.Event().wait(0.1)  # lets all callers start
        send(handler, good)

    return answer


def test_threads_at_once(remote: ModelEntry, server: Server, tmp_path: Path) -> None:
    server.answers[BODY] = slow(server.answers[BODY])  # type: ignore[arg-type]
    with ThreadPoolExecutor(6) as pool:
        folders = {future.result() for future in [pool.submit(fetch, remote) for _ in range(6)]}
    assert len(folders) == 1
    assert visible(tmp_path / "home") == ["README.md", "config.json", "model.safetensors"]
    assert hidden(tmp_path / "home") == []


def test_processes_at_once_with_an_abandoned_part(remote: ModelEntry, server: Server, tmp_path: Path) -> None:
    good = server.answers[BODY]
    assert isinstance(good, bytes)
    server.answers[BODY] = lambda handler: send(handler, good[:9000], announced=len(good))
    with pytest.raises(OSError, match="ended after 9000"):
        fetch(remote)
    server.answers[BODY] = slow(good)
    context = multiprocessing.get_context("fork")  # the children need the patched paths
    children = [context.Process(target=fetch, args=(remote,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0]
    assert server.ranges().count("bytes=9000-") == 1
    assert (fetch(remote) / "model.safetensors").read_bytes() == good
    assert hidden(tmp_path / "home") == []


def test_other_files_under_the_same_name_get_another_folder(
    remote: ModelEntry, server: Server, folder: Path, tmp_path: Path
) -> None:
    first = fetch(remote)
    save_model(Fake(), folder, card="# Second edition")
    server.answers = {f"/m/{path.name}": path.read_bytes() for path in folder.iterdir()}
    second = fetch(entry_of(tmp_path, folder, source=remote.source))
    assert first != second
    assert fetch(remote) == first


# Hub


def test_hub_source(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(**kwargs: Any) -> str:
        calls.append(kwargs)
        return str(folder / kwargs["filename"])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    entry_of(tmp_path, folder, source="hf://owner/repo@v1/sub")
    assert load_model("rooms-r18").config["width"] == 300
    assert len(calls) == 3
    expected = {"repo_id": "owner/repo", "revision": "v1", "subfolder": "sub", "force_download": False}
    assert expected.items() <= calls[0].items()


def test_hub_file_that_is_damaged_is_forced_once_then_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of(tmp_path, folder, source="hf://owner/repo")
    (folder / "config.json").write_text("{}")
    forced = []

    def download(**kwargs: Any) -> str:
        forced.append((kwargs["filename"], kwargs["force_download"]))
        return str(folder / kwargs["filename"])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ValueError, match=r"hf://owner/repo/config\.json: 2 bytes, expected"):
        fetch(entry)
    assert forced[-2:] == [("config.json", False), ("config.json", True)]


def test_hub_offline(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    entry = entry_of(tmp_path, folder, source="hf://owner/repo")
    with pytest.raises(OSError, match=r"hf://owner/repo/\S+: .") as caught:
        fetch(entry, tmp_path / "hub")
    assert "\n" not in str(caught.value)


# Command line


def test_zoo_list_show_verify(tmp_path: Path, folder: Path) -> None:
    write_registry(tmp_path, {"b": values_of(folder), "a": values_of(folder, source="gone")})
    table = rendered(zoo.zoo_list())
    assert table.index(" a ") < table.index(" b ")
    assert "semseg depth" in table
    assert "semseg/miou 0.4123" in table
    shown = rendered(zoo.zoo_show("b"))
    sha256 = describe_files(folder)["config.json"]["sha256"]
    assert all(text in shown for text in ("Apache-2.0", "[seed 0]", "train [/x] --a", "A card.", sha256))
    assert "no card: " in rendered(zoo.zoo_show("a"))
    with pytest.raises(ValueError, match="no model 'c' in the zoo; zoo: a, b"):
        zoo.zoo_show("c")
    problems = dict(zoo.zoo_verify())
    assert problems["b"] is None
    assert "no such file" in (problems["a"] or "")
    assert [name for name, _ in zoo.zoo_verify(["b", "c"])] == ["b", "c"]


def test_zoo_show_of_a_remote_model_fetches_the_card_only(remote: ModelEntry, server: Server) -> None:
    assert "A card." in rendered(zoo.zoo_show("rooms-r18"))
    assert [path for path, _ in server.requests] == ["/m/README.md"]


def test_empty_zoo() -> None:
    assert list_models() == []
    assert zoo.zoo_verify() == []
    with pytest.raises(ValueError, match=r"zoo: \(empty\)"):
        load_model("x")


def test_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "create_model_from_config", REAL_FACTORY)
    model = factory.create_model("test_resnet", SPECS, decoder_channels=16).eval()
    folder = tmp_path / "checkpoints" / "real"
    save_model(model, folder)
    entry_of(tmp_path, folder, name="real", source="real")
    loaded = load_model("real")
    images = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images)["depth"], loaded(images)["depth"])
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in str(describe_files(folder))

from __future__ import annotations

import http.server
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests

from visionmtl._files import FileEntry
from visionmtl.zoo import download as module
from visionmtl.zoo.download import download, is_safe

GOOD = bytes(range(256)) * 1000
EXPECTED = FileEntry(sha256(GOOD).hexdigest(), len(GOOD))
Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], object]


class Server:
    """A loopback server that gives each request for /file to ``answer`` and counts them."""

    def __init__(self) -> None:
        self.answer: Answer = lambda handler: send(handler, GOOD)
        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/file":
                    send(self, GOOD)
                    return
                outer.requests += 1
                outer.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"


def send(handler: Handler, body: bytes, announced: int = -1) -> None:
    """Answer with ``body``, and the number of its bytes unless another is given."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", str(announced if announced >= 0 else len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def body(data: bytes, announced: int = -1) -> Answer:
    return lambda handler: send(handler, data, announced)


def cut(length: int) -> Answer:
    """The connection ends after ``length`` bytes."""
    return body(GOOD[:length], announced=len(GOOD))


def status(code: int, text: bytes = b"<html>sorry</html>", **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def slow(handler: Handler) -> None:
    threading.Event().wait(0.1)  # lets all callers start
    send(handler, GOOD)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits before a further try
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model" / "weights"


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent))


def test_a_download_leaves_the_file_and_nothing_else(server: Server, path: Path) -> None:
    download(server.url, path, EXPECTED)
    assert path.read_bytes() == GOOD
    assert names(path) == ["weights"]


BAD = {
    "404": (status(404), "HTTP error 404"),
    "500": (status(500), "500 Server Error"),
    "html": (status(200, Content_Type="text/html; charset=utf-8"), "HTML page"),
    "wrong sha": (body(b"\1" + GOOD[1:]), "damaged: wrong sha256; nothing was kept"),
    "short": (body(GOOD[:-1]), r"announces \d+ bytes, expected \d+"),
    "long": (body(GOOD + b"x"), r"announces \d+ bytes, expected \d+"),
    "long, unannounced": (status(200, GOOD + b"x" * 9), "more than the expected"),
    "truncated": (cut(5000), "5000 bytes read, 251000 more expected"),
    "truncated, unannounced": (status(200, GOOD[:5000]), "damaged: wrong sha256"),
    "to http": (
        status(302, Location="http://example.com/m"),
        "refused a redirect to http://example.com",
    ),
    "to file": (status(302, Location="file:///etc/passwd"), "refused a redirect to file:"),
    "nothing": (lambda handler: handler.connection.close(), "http://127"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_answer_gives_one_line_and_the_second_try_works(
    server: Server, path: Path, case: str
) -> None:
    server.answer, message = BAD[case]
    with pytest.raises((OSError, ValueError), match=message) as caught:
        download(server.url, path, EXPECTED)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.exists()
    server.answer = body(GOOD)
    download(server.url, path, EXPECTED)
    assert path.read_bytes() == GOOD
    assert names(path) == ["weights"]


def test_redirect_within_loopback_is_followed(server: Server, path: Path) -> None:
    server.answer = status(302, Location=f"{server.url}/moved")
    download(server.url, path, EXPECTED)


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("http://127.0.0.1:1/m", False),
        ("http://example.com/m", False),
        ("https://example.org/m?s=1", True),
        ("/moved", True),
    ],
)
def test_https_may_not_be_redirected_to_http_not_even_on_this_machine(
    target: str, allowed: bool
) -> None:
    response = requests.Response()
    response.status_code = 302
    response.url = "https://example.com/m"
    response.headers["Location"] = target
    if allowed:
        module._check_response(response, 1)
        return
    with pytest.raises(OSError, match=f"refused a redirect to {target}"):
        module._check_response(response, 1)


@pytest.mark.parametrize(
    ("case", "times"), [("404", 1), ("html", 1), ("500", 3), ("wrong sha", 3), ("truncated", 3)]
)
def test_only_what_may_pass_is_tried_again(
    server: Server, path: Path, case: str, times: int
) -> None:
    server.answer, _ = BAD[case]
    with pytest.raises((OSError, ValueError)):
        download(server.url, path, EXPECTED)
    assert server.requests == times


def test_the_second_try_may_succeed(server: Server, path: Path) -> None:
    answers = iter([status(503), cut(5000), body(GOOD)])
    server.answer = lambda handler: next(answers)(handler)
    download(server.url, path, EXPECTED)
    assert path.read_bytes() == GOOD


def test_nothing_is_said(server: Server, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    download(server.url, path, EXPECTED)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://example.com/m", True),
        ("http://127.0.0.1:80/m", True),
        ("http://localhost/m", True),
        ("http://example.com/m", False),
        ("ftp://example.com/m", False),
        ("file:///etc/passwd", False),
        ("https:///m", False),
        ("rooms", False),
    ],
)
def test_only_https_and_loopback_are_safe(url: str, safe: bool) -> None:
    assert is_safe(url) is safe


def test_an_interrupted_download_starts_anew_and_leaves_nothing(server: Server, path: Path) -> None:
    def interrupt(handler: Handler) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_check_response", lambda response, size, **rest: interrupt(response))
        with pytest.raises(KeyboardInterrupt):
            download(server.url, path, EXPECTED)
    assert names(path) == []
    download(server.url, path, EXPECTED)
    assert names(path) == ["weights"]


def test_no_server(server: Server, path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:\d+/file.*refused"):
        download(server.url, path, EXPECTED)


def test_silent_server_times_out(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    release = threading.Event()
    server.answer = lambda handler: release.wait(5) and None
    with pytest.raises(OSError, match="timed out"):
        download(server.url, path, EXPECTED)
    release.set()


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"cannot write to the cache .*file/models.*: set VISIONMTL_HOME"
    ):
        download(server.url, tmp_path / "file" / "models" / "weights", EXPECTED)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(server: Server, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o555)
    with pytest.raises(OSError, match=r"cannot write to the cache .*Permission denied"):
        download(server.url, path, EXPECTED)
    path.parent.chmod(0o755)


def test_large_file_shows_progress(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_SHOW_PROGRESS", 1000)
    download(server.url, path, EXPECTED)
    captured = capsys.readouterr()
    assert "file" in captured.err
    assert captured.out == ""


def test_threads_at_once(server: Server, path: Path) -> None:
    server.answer = slow
    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(download, server.url, path, EXPECTED) for _ in range(6)]:
            future.result()
    assert names(path) == ["weights"]


def test_processes_at_once(server: Server, path: Path) -> None:
    server.answer = slow
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=download, args=(server.url, path, EXPECTED)) for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0]
    assert path.read_bytes() == GOOD
    assert names(path) == ["weights"]

"""Downloads: pooch fetches, tries again, checks the sha256 and gives a file its name as a whole.

Own here are only the rules that it does not have: https alone, also after a redirect, no more bytes
than expected, and errors of one line. An interrupted download starts anew, pooch resumes none.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from tqdm import tqdm

from visionmtl import __version__
from visionmtl._files import FileEntry

_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 2
_SHOW_PROGRESS = 8 << 20  # from so many bytes on


def is_safe(url: str) -> bool:
    """Whether a URL is https, or http on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        return parts.hostname in ("127.0.0.1", "localhost")
    return parts.scheme == "https" and bool(parts.hostname)


def download(url: str, path: Path, expected: FileEntry) -> None:
    """Download to ``path``, which comes to be when size and sha256 are right; safe with several
    processes at once.

    Raises:
        ValueError: the file is not the expected one; nothing is kept.
        OSError: it cannot be downloaded, or ``path`` cannot be written.
    """
    _check_folder(path.parent)
    pooch.get_logger().setLevel("WARNING")  # it tells what it downloads: the progress bar does
    source = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: f"sha256:{expected.sha256}"},
        urls={path.name: url},
        retry_if_failed=_RETRIES,
    )
    try:
        source.fetch(path.name, downloader=partial(_receive, size=expected.size))
    except ValueError as error:
        raise ValueError(f"{url}: damaged: wrong sha256; nothing was kept") from error
    except OSError as error:  # those of requests among them
        raise OSError(f"{url}: {str(error) or type(error).__name__}") from error


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f"cannot write to the cache {folder} ({error.strerror}): "
            "set VISIONMTL_HOME to a folder that can be written"
        ) from error


def _receive(url: str, path: str | os.PathLike[str], _: pooch.Pooch, size: int) -> None:
    """Write the body of ``url`` to ``path``; called by pooch, at every try."""
    name = url.rpartition("/")[2]
    progress = tqdm(
        desc=name,
        total=size,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=size < _SHOW_PROGRESS,
    )
    receive = pooch.HTTPDownloader(
        progressbar=progress,
        timeout=_TIMEOUT,
        headers={"User-Agent": f"visionmtl/{__version__}", "Accept-Encoding": "identity"},
        hooks={"response": partial(_check_response, size=size)},
    )
    with progress, open(path, "wb") as file:
        receive(url, _Limited(file, size), None)


def _check_response(response: requests.Response, size: int, **options: Any) -> None:
    """Refuse an answer before its body is read; called by requests, also at every redirect.

    Raises:
        OSError: the answer is not the expected file, so a further try is no use.
    """
    if response.is_redirect:
        target = urljoin(response.url, response.headers["Location"])
        downgraded = response.url.startswith("https:") and not target.startswith("https:")
        if downgraded or not is_safe(target):
            raise OSError(f"refused a redirect to {target}: not https")
        return
    if 400 <= response.status_code < 500:
        raise OSError(f"HTTP error {response.status_code} ({response.reason})")
    if not response.ok:
        return  # requests raises it, and pooch tries again
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise OSError("the server sent an HTML page instead of the file")
    announced = int(response.headers.get("Content-Length", size))
    if announced != size:
        raise OSError(f"the server announces {announced} bytes, expected {size}")


class _Limited:
    """A file that refuses to grow over ``size`` bytes."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size

    def write(self, data: bytes) -> None:
        if self.file.tell() + len(data) > self.size:
            raise OSError(f"the server sends more than the expected {self.size} bytes")
        self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

"""Downloads over https: resumable, checked before a file gets its name, safe with several processes
at once.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from visionmtl import __version__
from visionmtl._files import FileEntry

_TIMEOUT = 30.0  # seconds without a byte
_ABANDONED = 2 * _TIMEOUT  # a partial file that was not written for so long has no owner any more
_SHOW_PROGRESS = 8 << 20  # from so many bytes on


def is_safe(url: str) -> bool:
    """Whether a URL is https, or http on this machine."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost")
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and loopback)
    )


def download(url: str, path: Path, expected: FileEntry) -> None:
    """Download into a hidden file beside ``path``; it gets its name when size and sha256 are right.

    An interrupted download is resumed by the next call.

    Raises:
        ValueError: the file is not the expected one; nothing is kept.
        OSError: it cannot be downloaded, or ``path`` cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _adopt_part(path, part)
        file = part.open("ab")
    except OSError as error:
        reason = f"cannot write to the cache {path.parent} ({error.strerror})"
        raise OSError(f"{reason}: set VISIONMTL_HOME to a folder that can be written") from error
    try:
        with file:
            _receive(url, file, expected.size)
            os.fsync(file.fileno())
        if fault := expected.fault(part):
            part.unlink()
            raise ValueError(f"{url}: {fault}; nothing was kept")
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        with suppress(FileNotFoundError):  # an unfinished file is left to the next call
            os.utime(part, (0, 0))


def _adopt_part(path: Path, part: Path) -> None:
    """Rename what an interrupted download of ``path`` left to ``part``."""
    for old in path.parent.glob(f".{path.name}.*.part"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - old.stat().st_mtime > _ABANDONED:
                os.utime(old)  # first: under its new name nobody may take it for abandoned
                old.replace(part)


def _receive(url: str, file: IO[bytes], size: int) -> None:
    """Append the body of ``url`` to ``file`` until it has ``size`` bytes; asks only for what it
    lacks.
    """
    from rich.console import Console
    from rich.progress import Progress

    start = file.tell()
    if start == size:
        return
    headers = {"User-Agent": f"visionmtl/{__version__}"}
    if 0 < start < size:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.headers.get_content_type() == "text/html":
            raise OSError("the server sent an HTML page instead of the file")
        if response.status != 206:  # the whole file, from its beginning
            start = 0
            file.truncate(0)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part of the file than was asked for")
        if response.length is not None and start + response.length != size:
            raise OSError(f"the server announces {start + response.length} bytes, expected {size}")
        with Progress(
            console=Console(stderr=True), transient=True, disable=size < _SHOW_PROGRESS
        ) as progress:
            bar = progress.add_task(url.rpartition("/")[2], total=size)
            while chunk := response.read1(1 << 20):
                start += len(chunk)
                if start > size:
                    raise OSError(f"the server sends more than the expected {size} bytes")
                file.write(chunk)
                file.flush()  # its time stamp tells other processes that it is in use
                progress.update(bar, completed=start)
    if start < size:
        raise OSError(f"the connection ended after {start} of {size} bytes")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https only; a loopback server may redirect to itself."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_safe(newurl) or (req.type, urlsplit(newurl).scheme) == ("https", "http"):
            raise OSError(f"refused a redirect to {newurl}: not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

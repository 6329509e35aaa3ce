"""Downloads of weights: what, from where and how large is said before one starts; it resumes, and digests are checked.

``semfacediff fetch`` and ``weights.download=true`` both end in :func:`get`; nothing else goes to the network for
weights. Files at a plain address are read here, repositories of the model hub in :mod:`semfacediff.hub`.
"""

import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock
from tqdm import tqdm

from semfacediff.errors import UserError
from semfacediff.weight_files import file_digest, shown

TIMEOUT_S = 15
"""How long a server may stay silent."""
_ATTEMPTS = 4
"""Connections in a row that bring nothing new before a fetch is given up."""
_PAUSE_S = 1.0
_CHUNK = 1 << 20
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_PASSING = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class DownloadError(UserError):
    """A source did not give its files; what arrived of them is kept unless it was wrong."""


class Order(Protocol):
    """Files that a source has promised; ``str()`` says what, how large, from where and to where."""

    def fetch(self) -> Path: ...


Source = Callable[[], Order]
"""Asks a source for its files; a :class:`DownloadError` if it has none."""


def fetch_line(name: str) -> str:
    """The command that gets ``name``, for messages."""
    return f"semfacediff fetch {name}"


def get(name: str, sources: Sequence[Source]) -> Path:
    """Fetch from the first of ``sources`` that works; each is announced on stderr before it starts.

    Raises:
        DownloadError: none works; the sentence says why, source by source.
    """
    failures = []
    for source in sources:
        try:
            order = source()
            print(f"fetching {name}: {order}", file=sys.stderr, flush=True)
            return order.fetch()
        except DownloadError as e:
            failures.append(str(e))
    raise DownloadError("; ".join(failures))


def megabytes(size: int) -> str:
    """``size`` bytes for messages."""
    return f"{size / 1e6:,.1f} MB"


def check_space(folder: Path, size: int) -> None:
    """A :class:`DownloadError` if ``size`` bytes do not fit where ``folder`` is or will be."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise DownloadError(f"{shown(folder)}: {megabytes(size)} are to come, {megabytes(free)} are free; make room")


@dataclass(frozen=True)
class RemoteFile:
    """A file at a plain address.

    Attributes:
        url: its address. target: where it goes.
        sha256: its digest, or the leading digits that its publisher gives. size: bytes, ``None`` if nobody gives them.
    """

    url: str
    target: Path
    sha256: str
    size: int | None = None

    def __str__(self) -> str:
        kept = self._kept()
        size = f", {megabytes(self.size)}" if self.size else ""
        begun = f" ({megabytes(kept)} of it are here)" if kept else ""
        return f"{self.target.name}{size}{begun}, from {self.url} to {shown(self.target.parent)}"

    def fetch(self) -> Path:
        """The file, whole and checked. What an earlier call left in ``<name>.part`` is continued.

        Processes that fetch the same file wait for one another.

        Raises:
            DownloadError: the source does not give the file, or gives another one; or there is no place for it.
        """
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._part}.lock"):
                if not self.target.exists():
                    check_space(self.target.parent, (self.size or 0) - self._kept())
                    self._transfer()
                    self._check()
                    os.replace(self._part, self.target)
            Path(f"{self._part}.lock").unlink(missing_ok=True)
        except OSError as e:
            raise DownloadError(
                f"{shown(self.target)}: cannot be written ({e.strerror or e}); make place for it"
            ) from e
        return self.target

    @property
    def _part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    def _kept(self) -> int:
        """Bytes of earlier calls."""
        return self._part.stat().st_size if self._part.is_file() else 0

    def _transfer(self) -> None:
        """Append to the part until it is whole, over as many connections as that takes."""
        idle, most = 0, self._kept()
        while True:
            try:
                return self._append()
            except _PASSING as e:
                idle = 0 if self._kept() > most else idle + 1
                most = max(most, self._kept())
                if idle == _ATTEMPTS:
                    kept = f"; {megabytes(self._kept())} are kept, the same command continues" if self._kept() else ""
                    raise DownloadError(f"{self.target.name}: {self.url} does not answer ({_reason(e)}){kept}") from e
            time.sleep(_PAUSE_S)

    def _append(self) -> None:
        """One connection; a passing error if it ends before the file does."""
        kept = self._kept()
        if kept and kept == self.size:
            return
        ask = urllib.request.Request(self.url, headers={"Range": f"bytes={kept}-"} if kept else {})
        try:
            answer = urllib.request.urlopen(ask, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as e:
            if e.code == 416:  # the part is longer than the file
                self._part.unlink()
                raise ConnectionError("the part did not belong to this file") from e
            if e.code in _BUSY:
                raise
            raise DownloadError(f"{self.target.name}: {self.url} answers {e.code} {e.reason}") from e
        with answer:
            kept = kept if answer.status == 206 else 0  # some servers know no ranges and begin again
            total = self._promised(answer, kept)
            bar = tqdm(
                desc=self.target.name, total=total, initial=kept, unit="B", unit_scale=True, mininterval=1, disable=None
            )
            with open(self._part, "ab" if kept else "wb") as f, bar:
                while chunk := answer.read(_CHUNK):
                    f.write(chunk)
                    bar.update(len(chunk))
        if total is not None and self._kept() < total:
            raise ConnectionError(f"the connection ended after {megabytes(self._kept())}")

    def _promised(self, answer: http.client.HTTPResponse, kept: int) -> int | None:
        """Bytes of the whole file as the server announces it; refuses what cannot be the file before a byte is kept."""
        length = answer.headers.get("Content-Length")
        total = kept + int(length) if length and length.isdecimal() else self.size
        if answer.headers.get_content_type() == "text/html" or (self.size is not None and total != self.size):
            raise DownloadError(
                f"{self.target.name}: {self.url} gives {answer.headers.get_content_type()}, {total or '?'} bytes, "
                f"expected the file of {self.size or '?'} bytes; a proxy or a login page may answer in its place"
            )
        return total

    def _check(self) -> None:
        digest = file_digest(self._part)
        if not digest.startswith(self.sha256):
            self._part.unlink()
            raise DownloadError(
                f"{self.target.name}: {self.url} gave a file with SHA-256 {digest[:16]}..., expected "
                f"{self.sha256[:16]}...; it was deleted, fetch again or take it from elsewhere"
            )


def _reason(error: Exception) -> str:
    """An error of a connection in a few words."""
    return str(getattr(error, "reason", None) or error or type(error).__name__).splitlines()[0][:120]

"""Photos that a browser sends, and the files of each open page, in one folder that goes with the server.

A file is read or removed only if this module made it: a path that a browser names is looked up, never followed.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections import defaultdict, deque
from pathlib import Path

import numpy as np

from semfacediff.data.reading import decode_photo
from semfacediff.errors import UserError
from semfacediff.web.jobs import StoppedError
from semfacediff.web.pictures import encoded

MAX_UPLOAD_MB = 20
MAX_MEGAPIXELS = 16
_MAX_NAME = 60
_PREFIX = "semfacediff-web-"
_WAITING = 32
"""Uploads that no page has read yet; of more the oldest go."""
_OF_A_KIND = 4
"""Files of a kind that a page keeps: the browser may still fetch the one before the last."""


class PageFiles:
    """Pictures and downloads of one open page."""

    def __init__(self, path: Path):
        self._path, self._lock, self._closed = path, threading.Lock(), False
        self._kept: dict[str, deque[Path]] = defaultdict(deque)

    def write(self, kind: str, name: str, data: bytes) -> str:
        """Path of a new file; the oldest of its ``kind`` goes. :class:`StoppedError` once the page is closed."""
        with self._lock:
            if self._closed:
                raise StoppedError("The page was closed")
            folder = self._path / secrets.token_hex(16)
            folder.mkdir(parents=True)
            (folder / name).write_bytes(data)
            self._kept[kind].append(folder)
            if len(self._kept[kind]) > _OF_A_KIND:
                shutil.rmtree(self._kept[kind].popleft())
            return str(folder / name)

    def picture(self, kind: str, picture: np.ndarray) -> str:
        """A uint8 ``[H, W, 3]`` picture, to be shown."""
        return self.write(kind, f"{kind}.jpg", encoded(picture))

    def downloads(self, kind: str, stem: str, png: bytes, record: str) -> list[str]:
        """``<stem>.png`` and ``<stem>.json``."""
        named = ((f"{stem}.png", png), (f"{stem}.json", record.encode()))
        return [self.write(kind + Path(name).suffix, name, data) for name, data in named]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            shutil.rmtree(self._path, ignore_errors=True)


class Files:
    """All files of a server. Safe to be used by several threads.

    Attributes:
        root: the folder, absolute and resolved. It is locked while the process lives; folders of processes that were
            killed are removed here.
    """

    def __init__(self):
        _remove_leftovers()
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}")).resolve()
        self._held = os.open(made, os.O_RDONLY)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.root = made.rename(made.with_name(made.name[1:]))  # unlocked folders of this name are leftovers
        self._lock, self._closed = threading.Lock(), False
        self._uploads: dict[str, Path] = {}
        self._pages: dict[str, PageFiles] = {}

    def keep(self, name: str, data: bytes) -> str:
        """Path of an uploaded file, to be read once by :meth:`take`."""
        with self._lock:
            if self._closed:
                raise StoppedError("The server ends")
            while len(self._uploads) >= _WAITING:
                self._forget(next(iter(self._uploads)))
            token = secrets.token_hex(16)
            self._uploads[token] = file = self.root / token / safe_name(name)
            file.parent.mkdir()
            file.write_bytes(data)
            return str(file)

    def take(self, path: str) -> bytes:
        """Bytes of an uploaded file, which is then removed; a :class:`UserError` for any other path."""
        file = Path(path)
        with self._lock:
            if self._uploads.get(file.parent.name) != file:
                raise UserError(f"{safe_name(path)}: expected a photo that was uploaded just now; load it again")
            try:
                if file.resolve() != file:
                    raise UserError(f"{file.name}: the upload was replaced by a link; load it again")
                return file.read_bytes()
            except OSError as e:
                raise UserError(f"{file.name}: the upload cannot be read ({e.strerror}); load it again") from e
            finally:
                self._forget(file.parent.name)

    def page(self, session: str) -> PageFiles:
        """Those of an open page."""
        with self._lock:
            if session not in self._pages:
                self._pages[session] = PageFiles(self.root / f"page-{secrets.token_hex(16)}")
                if self._closed:
                    self._pages[session].close()
            return self._pages[session]

    def close_page(self, session: str) -> None:
        """Remove its files, and with the last page uploads that none has read."""
        with self._lock:
            if session in self._pages:
                self._pages.pop(session).close()
            for token in [] if self._pages else list(self._uploads):
                self._forget(token)

    def close(self) -> None:
        """Remove everything; nothing is written afterwards."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for page in self._pages.values():
                page.close()
            shutil.rmtree(self.root, ignore_errors=True)
            os.close(self._held)

    def _forget(self, token: str) -> None:
        shutil.rmtree(self._uploads.pop(token).parent, ignore_errors=True)


def _remove_leftovers() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # no folder, or somebody else's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(held).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its server runs
            pass
        finally:
            os.close(held)


def decode_upload(data: bytes, name: str) -> np.ndarray:
    """uint8 ``[H, W, 3]`` of an uploaded photo; its size is judged by its header.

    Raises:
        UserError: over :data:`MAX_UPLOAD_MB` or :data:`MAX_MEGAPIXELS`, or no photo that can be read.
    """
    if len(data) > MAX_UPLOAD_MB * 1_000_000:
        megabytes = len(data) / 1_000_000
        raise UserError(f"{name}: {megabytes:.1f} MB are over the limit of {MAX_UPLOAD_MB} MB; save it smaller")
    return decode_photo(data, name, MAX_MEGAPIXELS * 1_000_000)


def safe_name(name: str) -> str:
    """A file's name with letters, digits, ``.``, ``-`` and ``_`` alone; its end is kept where it is too long."""
    kept = re.sub(r"[^\w.-]+", "_", Path(name).name).lstrip(".")
    return kept[-_MAX_NAME:] or "photo"

"""Uploaded photos and the files of each open page, in one folder that is deleted when the server ends.

Files are read or removed only if this module created them: paths from a browser are looked up, never followed.
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

from semfacediff.errors import UserError
from semfacediff.web.jobs import StoppedError
from semfacediff.web.pictures import encoded

_PREFIX = "semfacediff-web-"
_MAX_NAME = 60
_UPLOADS = 32
"""Uploads that no page has read yet; beyond this number the oldest are removed."""
_KEPT_PER_KIND = 4
"""Files that a page keeps of each kind: the browser may still fetch the second to last."""


class Folder:
    """A folder whose files have unguessable paths. Thread-safe.

    Args:
        keep: number of newest files kept of each kind.
    """

    def __init__(self, path: Path, keep: int):
        self._path, self._keep = path, keep
        self._lock, self._closed = threading.Lock(), False
        self._files: dict[str, deque[Path]] = defaultdict(deque)

    def check(self) -> None:
        """Raises :class:`StoppedError` once the folder is closed."""
        if self._closed:
            raise StoppedError("The page was closed")

    def write(self, kind: str, name: str, data: bytes) -> str:
        """Write a new file and return its path; raises :class:`StoppedError` once the folder is closed."""
        with self._lock:
            self.check()
            file = self._path / secrets.token_hex(16) / name
            self._path.mkdir(exist_ok=True)  # not its parent, which is gone when the server ends
            file.parent.mkdir()
            file.write_bytes(data)
            self._files[kind].append(file)
            if len(self._files[kind]) > self._keep:
                shutil.rmtree(self._files[kind].popleft().parent, ignore_errors=True)
            return str(file)

    def take(self, kind: str, path: str) -> bytes:
        """Read and remove a file that :meth:`write` created; raises :class:`UserError` for any other path."""
        file = Path(path)
        with self._lock:
            if file not in self._files[kind]:
                raise UserError(f"{safe_name(path)}: expected a photo that was just uploaded; load it again")
            self._files[kind].remove(file)
            try:
                if file.resolve() != file:
                    raise UserError(f"{file.name}: the upload was replaced by a link; load it again")
                return file.read_bytes()
            except OSError as e:
                raise UserError(f"{file.name}: the upload cannot be read ({e.strerror}); load it again") from e
            finally:
                shutil.rmtree(file.parent, ignore_errors=True)

    def picture(self, kind: str, picture: np.ndarray) -> str:
        """Write a uint8 ``[H, W, 3]`` picture for display and return its path."""
        return self.write(kind, f"{kind}.jpg", encoded(picture))

    def downloads(self, kind: str, stem: str, png: bytes, record: str) -> list[str]:
        """Write ``<stem>.png`` and ``<stem>.json`` and return their paths."""
        files = ((f"{stem}.png", png), (f"{stem}.json", record.encode()))
        return [self.write(kind + Path(name).suffix, name, data) for name, data in files]

    def clear(self, for_good: bool = True) -> None:
        """Remove everything; with ``for_good`` running jobs cannot write afterwards."""
        with self._lock:
            self._closed = for_good
            self._files.clear()
            shutil.rmtree(self._path, ignore_errors=True)


class Files:
    """All files of a server.

    Attributes:
        root: the folder, absolute and resolved. It is locked while the process lives; leftover folders of killed
            processes are removed.
        uploads: those that no page has read yet.
    """

    def __init__(self):
        _remove_leftovers()
        created = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}")).resolve()
        self._lock_file = os.open(created, os.O_RDONLY)
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        self.root = created.rename(
            created.with_name(created.name[1:])
        )  # folders with this name and no lock are leftovers
        self.uploads = Folder(self.root / "uploads", _UPLOADS)
        self._lock, self._pages = threading.Lock(), {}

    def page(self, session: str) -> Folder:
        """Folder of an open page."""
        with self._lock:
            return self._pages.setdefault(session, Folder(self.root / f"page-{secrets.token_hex(16)}", _KEPT_PER_KIND))

    def close_page(self, session: str) -> None:
        """Remove a page's files and, with the last page, unread uploads."""
        with self._lock:
            if session in self._pages:
                self._pages.pop(session).clear()
            if not self._pages:
                self.uploads.clear(for_good=False)

    def close(self) -> None:
        """Remove everything and prevent later writes."""
        with self._lock:
            for folder in (self.uploads, *self._pages.values()):
                folder.clear()
            shutil.rmtree(self.root, ignore_errors=True)


def _remove_leftovers() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # not a folder, or owned by another user
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its server is running
            continue
        finally:
            os.close(held)


def safe_name(name: str) -> str:
    """File name reduced to letters, digits, ``.``, ``-`` and ``_``; long names keep their end."""
    kept = re.sub(r"[^\w.-]+", "_", Path(name).name).lstrip(".")
    return kept[-_MAX_NAME:] or "photo"

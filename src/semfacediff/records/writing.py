"""Writes that are either whole or absent, and whose failure is never swallowed."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from semfacediff.errors import FatalError


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn a failed write (full disk, no permission, a folder in the way) into a :class:`FatalError`."""
    try:
        yield
    except OSError as e:
        raise FatalError(
            f"cannot write {path} ({e.strerror or e}); free the space or the permission, then repeat the command: "
            f"the run continues where it stopped"
        ) from e


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write through a temporary name and rename, synced: a kill leaves the old content or the new one.

    So does an exception of ``chunks``, which may be read from the old content.
    """
    new = path.with_name(f".{path.name}.new")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(new, "wb") as f:
                f.writelines(chunks)
                f.flush()
                os.fsync(f.fileno())
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()  # half a file would only take up room on a full disk
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """:func:`write_chunks` of one."""
    write_chunks(path, [data])


def write_text(path: Path, text: str) -> None:
    """:func:`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())

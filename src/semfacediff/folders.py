"""Folders that are replaced as a whole: whenever a process is killed, the old contents or the new ones are there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_NEW, _OLD = ".new", ".old"


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to be filled; it takes the place of ``folder`` when the block ends without an exception.

    The new folder lies beside ``folder`` while it is filled. A kill at any moment, and any number of kills one after
    another, leaves the old contents or the new ones whole; :func:`recover` tells them apart. One process at a time.

    Raises:
        OSError: the new folder cannot be written or moved.
    """
    recover(folder)
    new, old = _beside(folder, _NEW), _beside(folder, _OLD)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)  # half a folder would only take up room on a full disk
        raise
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Finish what a killed :func:`replacing` began, and remove what it left.

    ``folder`` is moved away only once the new one is complete, so where it is absent and both others are there, the new
    one takes its place.
    """
    place = intact_folder(folder)
    if place is not None and place != folder:
        os.rename(place, folder)
    for rest in (_beside(folder, _NEW), _beside(folder, _OLD)):
        shutil.rmtree(rest, ignore_errors=True)


def intact_folder(folder: Path) -> Path | None:
    """Where the contents of ``folder`` are: itself, or what a killed :func:`replacing` left; ``None`` if nowhere.

    For readers, who change nothing.
    """
    new, old = _beside(folder, _NEW), _beside(folder, _OLD)
    if folder.is_dir():
        return folder
    if old.is_dir():
        return new if new.is_dir() else old
    return None


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)

"""Processing of a photo or of every photo in a folder, shared by ``semfacediff parse`` and ``semfacediff edit``."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from semfacediff.data.files import PHOTO_SUFFIXES, unusable_stem
from semfacediff.errors import FatalError, UserError, printable
from semfacediff.records.writing import write_text
from semfacediff.tasks.training.checks import out_of_memory

PARSE_REPORT = "parse_report.json"


def photos_of(source: Path) -> list[Path]:
    """The photo itself, or the photos of a folder, by name; raises :class:`UserError` if there is none."""
    if source.is_file():
        if why := _unusable(source):
            raise UserError(why)
        return [source]
    if not source.is_dir():
        raise UserError(f"PHOTO: expected a photo or a folder of photos, nothing is at {source}; correct the path")
    found = [p for p in sorted(source.iterdir()) if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise UserError(f"PHOTO: no photo ({', '.join(PHOTO_SUFFIXES)}) in {source}; give another folder")
    return found


def _unusable(photo: Path) -> str | None:
    """Why a photo's name cannot be used for results; ``None`` if it can."""
    if f"{photo.stem}.json" == PARSE_REPORT:
        return f"{photo.name}: its result would be named {PARSE_REPORT}, like a folder's report; rename the photo"
    return unusable_stem(photo.stem)


def each_photo(source: Path, photos: list[Path], made: str, work: Callable[[Path], None]) -> dict[str, str]:
    """Call ``work`` for every photo; a failure does not stop the others.

    Args:
        source: a folder, or a single photo, whose failure is raised.
        photos: see :func:`photos_of`.
        made: kind of result; it must not overwrite that of another photo, or a report.

    Returns:
        Name of a photo -> why it failed; both printable.

    Raises:
        UserError: from a single photo.
        FatalError: from any photo.
    """
    failed: dict[str, str] = {}
    first: dict[str, Path] = {}
    single = source.is_file()
    for photo in tqdm(photos, made, unit="photo", disable=single or None):
        other, name = first.setdefault(photo.stem, photo), printable(photo.name)
        try:
            if why := _unusable(photo):
                raise UserError(why)
            if other != photo:
                raise UserError(f"{name}: its {made} would overwrite that of {other.name}; rename one of the two")
            with _memory_named(name):
                work(photo)
        except Exception as e:
            if single or isinstance(e, FatalError):
                raise
            failed[name] = str(e) if isinstance(e, UserError) else printable(f"{name}: {type(e).__name__}: {e}")
    return failed


@contextlib.contextmanager
def _memory_named(name: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        if not out_of_memory(e):
            raise
        raise UserError(f"{name}: out of memory; scale the photo down, or choose another --device") from e


def report(file: Path, failed: dict[str, str], n: int, done: str) -> None:
    """Write the report of a folder and print failures.

    Args:
        n: photos in the folder. done: key for the number of successful photos.
    """
    facts = {"photos": n, done: n - len(failed), "failed": failed}
    write_text(file, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    for reason in failed.values():
        print(f"error: {reason}", file=sys.stderr)

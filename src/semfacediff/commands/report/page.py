"""``semfacediff report``: records as one page."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.records.writing import write_bytes
from semfacediff.report.naming import named
from semfacediff.report.page import render
from semfacediff.report.reading import Record, read_records
from semfacediff.report.sample_rows import Pictures, columns, ranking
from semfacediff.report.wording import Score

PAGE = "index.html"


@dataclass(frozen=True)
class ReportOptions:
    """Options of the command line.

    Attributes:
        rank: score that ranks edits; ``None`` = the first that differs.
        data, parser: folders of photos and parser; by default from ``SEMFACEDIFF_DATA`` and the record.
    """

    with_photos: bool = False
    rank: str | None = None
    data: Path | None = None
    parser: Path | None = None


def report(folders: list[Path], out: Path | None, options: ReportOptions) -> Path:
    """Write the page of one or several runs; returns its path.

    Args:
        out: folder for it; by default ``outputs/report/<names of the runs>``.

    Raises:
        UserError: no readable record, unknown score, or the photos are not the run's.
    """
    records, unread = read_records(folders)
    records = named(records)
    rank = _rank(records, options.rank)
    pictures = _pictures(records, rank, options) if options.with_photos else None
    page = render(records, unread, config.repository(), _command(folders, out, options), rank, pictures)
    file = (out or _default(folders)) / PAGE
    write_bytes(file, page.encode("utf-8", "replace"))  # file names may not be valid text
    return file


def _rank(records: list[Record], asked: str | None) -> Score | None:
    if asked is None:
        return ranking(records)
    known = {s.name: s for s in columns(records)}
    if asked not in known:
        raise UserError(f"--rank: no score '{asked}' in these runs; there are {', '.join(known) or 'none'}")
    return known[asked]


def _pictures(records: list[Record], rank: Score | None, options: ReportOptions) -> Pictures:
    from semfacediff.commands.report.pictures import (
        pictures,
    )  # imports torch, which a page without photos does not need

    return pictures(records, rank, options.data, options.parser)


def _default(folders: list[Path]) -> Path:
    more = f"-and-{len(folders) - 1}-more" if len(folders) > 1 else ""
    return Path("outputs") / "report" / f"{folders[0].resolve().name}{more}"


def _command(folders: list[Path], out: Path | None, options: ReportOptions) -> str:
    words = ["semfacediff", "report", *map(_place, folders)]
    words += ["--out", _place(out)] if out else []
    words += ["--with-photos"] if options.with_photos else []
    words += ["--rank", options.rank] if options.rank else []
    words += [word for name in ("data", "parser") if (p := getattr(options, name)) for word in (f"--{name}", _place(p))]
    return shlex.join(words)


def _place(path: Path) -> str:
    """Relative to the working folder, or ``DIR/name``: the page may be shown to others."""
    here = Path.cwd()
    if not path.is_absolute():
        return str(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else Path("DIR") / path.name)

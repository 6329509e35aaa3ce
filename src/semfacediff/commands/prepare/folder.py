"""``semfacediff prepare``: converts the official CelebAMask-HQ layout to photos and label maps.

Two layouts, both with ``split.txt`` (the official split, read by ``data.split_rule.by=file``) and a report:

    folder    images/<id>.jpg beside masks/<id>.png
    shards    celebamask_hq-<k:05d>.tar with <id>.jpg and <id>.png, WebDataset

Attributes and head pose go into ``attributes.csv``, which the readers of both layouts use. Photos are copied byte by
byte, label maps are written at the part masks' own size. This module does not import torch, so that workers start fast.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from semfacediff.commands.prepare.files import Prepared, Settings, fingerprint, folder_files, into_tars, make, shards
from semfacediff.data.attributes import ATTRIBUTES_FILE, attributes_text
from semfacediff.data.celebamask_layout import OfficialEntry, OfficialIndex, index_official
from semfacediff.data.splits import SPLIT_LIST
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.records.writing import write_errors, write_text
from semfacediff.threads import allowed_cores

SETTINGS, LOG = "prepare.json", "prepare.jsonl"
_KEYS = {"id", "absent", "odd", "error"}
REPORT_JSON, REPORT_TEXT = "report.json", "report.txt"
MAX_SHOWN = 20


def prepare(root: Path, out: Path, settings: Settings, workers: int | None = None) -> int:
    """Prepare ``root`` into ``out``; returns 0, or 1 if photos were left out.

    A killed command continues when repeated, with the same result. Photos that were left out are retried, photos whose
    files have changed are converted again, and output of deleted photos is removed.

    Args:
        workers: processes; ``None`` = one per available core, 1 = only this one.

    Raises:
        UserError: not the official layout; ``out`` was begun with other settings, is in use, or cannot be written.
    """
    index = index_official(root)
    entries = _chosen(index, settings.split)
    _begin(out, settings)
    with _locked_log(out) as log:
        rows = _kept(log, out, settings, entries)
        todo = [e for e in entries if e.id not in rows]
        write_text(out / SPLIT_LIST, "".join(f"{e.id} {e.split}\n" for e in entries if e.split))
        _write_attributes(entries, out / ATTRIBUTES_FILE)
        for one in _all_made(todo, entries, settings, out, workers or allowed_cores()):
            rows[one.id] = one.row()
            _append(log, out, [rows[one.id]])
    return _finish(out, settings, index, [(e, rows[e.id]) for e in entries])


def _chosen(index: OfficialIndex, split: str) -> list[OfficialEntry]:
    chosen = [e for e in index.entries if split in ("all", e.split)]
    if not chosen:
        reason = next(iter(index.unsplit.values()), "the partition puts no photo there")
        raise UserError(f"--split {split}: no photo ({reason}); fix the lists, or use --split all")
    return chosen


def _begin(out: Path, settings: Settings) -> None:
    """Create ``out``, or check that it was started with the same settings."""
    file, wanted = out / SETTINGS, asdict(settings)
    if file.exists():
        try:
            found = json.loads(file.read_text())
        except ValueError:
            found = {}
        other = [f"{k} is {found.get(k)!r} there, {v!r} here" for k, v in wanted.items() if found.get(k) != v]
        if other:
            raise UserError(f"{out} was begun with other settings ({'; '.join(other)}); give another --out")
        return
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        # A kill while writing the settings leaves this file.
        if any(p.name != f".{SETTINGS}.new" for p in out.iterdir()):
            raise UserError(f"--out: expected an empty folder, or one that this command began, got {out}; give another")
    write_text(file, json.dumps(wanted, indent=1) + "\n")


def _write_attributes(entries: list[OfficialEntry], file: Path) -> None:
    known = {e.id: e.attributes for e in entries if e.attributes}
    if known:
        write_text(file, attributes_text(known))
    else:  # nor keep those of an earlier run
        with write_errors(file):
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked_log(out: Path) -> Iterator[TextIO]:
    with contextlib.ExitStack() as stack:
        with write_errors(out / LOG):
            log = stack.enter_context(open(out / LOG, "a", encoding="utf-8"))
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise UserError(f"another process is preparing {out}; wait for it, or give another --out") from e
        yield log


def _append(log: TextIO, out: Path, rows: Iterable[Mapping]) -> None:
    with write_errors(out / LOG):
        log.writelines(json.dumps(row) + "\n" for row in rows)
        log.flush()


def _kept(log: TextIO, out: Path, settings: Settings, entries: list[OfficialEntry]) -> dict[str, dict]:
    """Id -> log row of valid earlier results; all others are revoked and removed."""
    rows = {row["id"]: row for row in _log_rows(out / LOG)}  # of several rows the last one counts
    good = {e.id for e in entries if e.id in rows and _up_to_date(e, rows[e.id])}
    if settings.layout == "folder":
        good = {i for i in good if all((out / f).exists() for f in folder_files(i))}
    else:
        good = _in_whole_tars(out, settings, entries, rows, good)
    # Revoked in the log before the files are removed: no old row may validate a new file of the same name.
    stale = [i for i, row in rows.items() if i not in good and (row["error"] is None or row.get("tar"))]
    _append(log, out, (Prepared(i, error="out of date").row() for i in stale))
    _remove_others(out, settings, entries, good)
    return {i: rows[i] for i in good}


def _up_to_date(entry: OfficialEntry, row: Mapping) -> bool:
    return row["error"] is None and row.get("source") == fingerprint(entry)


def _in_whole_tars(
    out: Path, settings: Settings, entries: list[OfficialEntry], rows: Mapping[str, Mapping], good: set[str]
) -> set[str]:
    """Ids in tars that hold exactly the expected photos, all of them ``good``."""
    logged = defaultdict(set)
    for i, row in rows.items():
        logged[row.get("tar"), row.get("tar_photos")].add(i)
    whole = set()
    for tar, photos in shards(entries, settings.shard_size, out):
        ids = {e.id for e in photos}
        if ids <= good and ids == logged[tar.name, len(ids)] and tar.exists():
            whole |= ids
    return whole


def _remove_others(out: Path, settings: Settings, entries: list[OfficialEntry], kept: set[str]) -> None:
    """Remove earlier output that is not in ``kept``; files with other names are untouched."""
    if settings.layout == "folder":
        wanted = {out / f for i in kept for f in folder_files(i)}
        made = [p for pattern in folder_files("*") for p in out.glob(pattern) if p.stem.isdecimal()]
    else:
        wanted = {tar for tar, photos in shards(entries, settings.shard_size, out) if photos[0].id in kept}
        made = list(out.glob(f"celebamask_hq-{'[0-9]' * 5}.tar"))
    with write_errors(out):
        for file in set(made) - wanted:
            file.unlink()


def _log_rows(log: Path) -> list[dict]:
    """The log's rows up to the first invalid line (after a kill or damage); the log is truncated there."""
    rows, end, data = [], 0, log.read_bytes()
    for line in data.splitlines(keepends=True):
        row = _row(line)
        if row is None:
            break
        rows.append(row)
        end += len(line)
    if end < len(data):
        with write_errors(log):
            os.truncate(log, end)
    return rows


def _row(line: bytes) -> dict | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(row, dict) and row.keys() >= _KEYS and isinstance(row["id"], str)
    return row if whole else None


def _all_made(
    todo: list[OfficialEntry], entries: list[OfficialEntry], settings: Settings, out: Path, workers: int
) -> Iterator[Prepared]:
    """Convert everything in ``todo``; yields results once their files are in place."""
    tars = []
    if settings.layout == "shards":  # a tar is made whole or not at all
        wanted = {e.id for e in todo}
        tars = [t for t in shards(entries, settings.shard_size, out) if t[1][0].id in wanted]
        todo = [e for _, photos in tars for e in photos]
    with tqdm(total=len(entries), initial=len(entries) - len(todo), unit="photo", desc="prepare", disable=None) as bar:
        made = _counted(make(todo, settings, out, workers), bar)
        yield from (into_tars(made, tars) if settings.layout == "shards" else made)


def _counted(made: Iterator[Prepared], bar: tqdm) -> Iterator[Prepared]:
    for one in made:
        bar.update()
        yield one


# --------------------------------------------------------------------------------------------------------------------
# The report.


@dataclass
class _Report:
    """Sums over all rows of the log."""

    n: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CELEBAMASK.classes[1:], 0))
    odd: list[str] = field(default_factory=list)

    def add(self, row: Mapping) -> None:
        self.odd += row["odd"]
        if row["error"] is not None:
            self.errors[row["id"]] = row["error"]
            return
        self.n += 1
        for part in row["absent"]:
            self.absent[part] += 1


def _finish(out: Path, settings: Settings, index: OfficialIndex, made: list[tuple[OfficialEntry, dict]]) -> int:
    report, entries, ids = _Report(), [e for e, _ in made], {e.id for e, _ in made}
    for _, row in made:
        report.add(row)
    good = [e for e in entries if e.id not in report.errors]
    facts = {
        **asdict(settings),
        "photos": len(entries),
        "prepared": report.n,
        "splits": {s: sum(e.split == s for e in good) for s in ("train", "val", "test")},
        "left_out": report.errors,
        "photos_missing": [name for name, split in index.missing.items() if settings.split in ("all", split)],
        "without_split": {i: reason for i, reason in index.unsplit.items() if i in ids},
        "without_annotation": [i for i in index.unannotated if i in ids],
        "photos_without_part": report.absent,
        "odd_files": [*index.odd, *report.odd],
    }
    write_text(out / REPORT_JSON, json.dumps(facts, indent=1) + "\n")
    text = report_text(facts)
    write_text(out / REPORT_TEXT, text)
    print(text, end="")
    print(f"report: {out / REPORT_JSON}")
    split = "data.split_rule.by=file" if not facts["without_split"] else "data.split=all"
    print(f"use it: data={settings.layout} data.root={out} {split}")
    if report.errors:
        left_out = f"{len(report.errors)} of {len(entries)} photos were left out"
        print(f"error: {left_out}; fix them and repeat the command, see {out / REPORT_TEXT}", file=sys.stderr)
    return 1 if report.errors else 0


def report_text(facts: Mapping) -> str:
    """The report as text; long lists are truncated, the JSON has them complete."""
    splits = ", ".join(f"{n} {s}" for s, n in facts["splits"].items())
    lines = [f"prepared {facts['prepared']} of {facts['photos']} photos ({splits}); paint order {facts['order']}"]
    lines += _listed("left out", facts["left_out"].values())
    lines += _listed("photos missing", facts["photos_missing"])
    lines += _listed("without a split", facts["without_split"].values())
    if facts["without_annotation"]:
        lines += _listed("without an annotation", [f"photo {i}" for i in facts["without_annotation"]])
    lines += _listed("odd files", facts["odd_files"])
    absent = [f"{part} {n}" for part, n in facts["photos_without_part"].items() if n]
    lines.append(f"photos without a part: {', '.join(absent) or 'none'}")
    return "\n".join(lines) + "\n"


def _listed(what: str, sentences: Iterable[str]) -> list[str]:
    sentences = list(sentences)
    if not sentences:
        return []
    more = [f"  ... and {len(sentences) - MAX_SHOWN} more"] if len(sentences) > MAX_SHOWN else []
    return [f"{what}: {len(sentences)}", *(f"  {s}" for s in sentences[:MAX_SHOWN]), *more]

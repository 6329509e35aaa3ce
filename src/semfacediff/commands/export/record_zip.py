"""Records to and from one zip: ``semfacediff export RUN --to zip`` and ``semfacediff import``."""

import os
import tempfile
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.records.folder import read_run
from semfacediff.records.sealing import runs_in, seal, unseal
from semfacediff.records.writing import write_errors
from semfacediff.tasks.resummarised import refuse_inconsistent


def export_records(folder: Path, out: Path, edits: bool) -> int:
    """Write the zip of a run or a sweep, and check that it can be imported again; returns 0."""
    runs = runs_in(folder)
    for run in runs.values():
        refuse_inconsistent(run)
    seal(runs, out, edits)
    print(f"{', '.join(runs)} -> {out} ({out.stat().st_size / 1e6:.2f} MB); read it with: semfacediff import {out}")
    return 0


def import_records(file: Path, into: Path) -> int:
    """File the records of a zip in ``into``; a record that is there already is left as it is. Returns 0.

    All are checked before the first is filed: a refused zip writes nothing.

    Raises:
        UserError: what does not match; or another record has the name of one.
    """
    above = next(place for place in (into, *into.absolute().parents) if place.is_dir())  # of the same file system
    with write_errors(into):
        workplace = tempfile.TemporaryDirectory(prefix=".import-", dir=above)
    with workplace as unpacked:
        names = unseal(file, Path(unpacked))
        for name in names:
            try:
                refuse_inconsistent(Path(unpacked, name))
            except UserError as e:
                said = str(e).replace(f"{unpacked}{os.sep}", "")
                raise UserError(f"{file}: {said}; nothing was imported") from e
        known = [name for name in names if _there(Path(unpacked, name), into / name)]
        for name in names:
            if name not in known:
                with write_errors(into / name):
                    (into / name).parent.mkdir(parents=True, exist_ok=True)
                    os.rename(Path(unpacked, name), into / name)
            print(f"{into / name}: {'was there already, unchanged' if name in known else 'imported'}")
            if doubts := read_run(into / name)["not_comparable"]:
                print(f"{into / name}: not comparable ({'; '.join(doubts)}), so that tables refuse it")
    return 0


def _there(new: Path, old: Path) -> bool:
    """Whether ``old`` is the same record; a :class:`UserError` if it is another one."""
    if not old.exists() and not old.is_symlink():
        return False
    for file in (f for f in new.rglob("*") if f.is_file()):
        kept = old / file.relative_to(new)
        if not kept.is_file() or kept.read_bytes() != file.read_bytes():
            raise UserError(f"{old} is another record ({file.name} differs); nothing was imported, give --into DIR")
    return True

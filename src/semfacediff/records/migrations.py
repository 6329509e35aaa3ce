"""Changes to records of earlier versions, applied once and named in the record."""

import json
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, now, read_run, write_run
from semfacediff.records.integrity import file_digests

ADD_FILE_DIGESTS = "add_file_digests"


def add_file_digests(folder: Path) -> bool:
    """Seal a finished record that has no digests of its files; ``False`` if it has some already.

    The digests are of the files as they are now: they show later changes, not earlier ones. ``run.json`` says so under
    ``migrations``.

    Raises:
        UserError: the run is not finished.
    """
    run = read_run(folder)
    if run["status"] != DONE:
        raise UserError(f"{folder}: expected a finished run, got status {run['status']}; repeat its command first")
    plain = json.loads((folder / "run.json").read_text("utf-8"))  # as written: reading completes older records
    if plain.get("files"):
        return False
    applied = {"name": ADD_FILE_DIGESTS, "when": now()}
    plain |= {"files": file_digests(folder), "migrations": [*plain.get("migrations", []), applied]}
    write_run(folder, plain)
    return True

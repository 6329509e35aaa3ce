"""Records as one zip without photos: written from finished runs, and unpacked only if every digest matches."""

import hashlib
import json
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from semfacediff import __version__
from semfacediff.errors import UserError, printable
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.integrity import FILES, refuse_changed
from semfacediff.records.writing import write_chunks, write_errors
from semfacediff.weight_files import file_digest

SEAL, FORMAT = "seal.json", 1
"""The zip's list of contents (run -> file -> SHA-256 and bytes), and the version of its layout."""
RECORD = ("run.json", "config.yaml", *FILES)
EDITS = "edits"
LARGEST, WHOLE = 1 << 28, 1 << 32
"""Bytes, unpacked, that a member and the whole zip may have."""
_CHUNK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member: the zip of a record depends on the record alone."""


def runs_in(folder: Path) -> dict[str, Path]:
    """Name -> folder: the run itself, or all runs of a sweep.

    Raises:
        UserError: there is none.
    """
    if (folder / "run.json").is_file():
        return {folder.resolve().name: folder}
    found = {f"{folder.resolve().name}/{file.parent.name}": file.parent for file in sorted(folder.glob("*/run.json"))}
    if not found:
        raise UserError(f"{folder}: expected the folder of a run or of a sweep, found no run.json in it; name another")
    return found


def seal(runs: Mapping[str, Path], out: Path, edits: bool = False) -> None:
    """Write the zip ``out`` of finished runs: samples, summaries, configuration and ``run.json``.

    Args:
        runs: name in the zip, and below ``results/runs`` when it is imported -> folder. edits: also the edited photos.

    Raises:
        UserError: a run is unfinished or changed by hand, or ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists; name a new file")
    files: dict[str, dict[str, Path]] = {}
    for name, folder in runs.items():
        run = read_run(folder)
        if run["status"] != DONE:
            raise UserError(f"{folder}: status {run['status']}, expected {DONE}; repeat its command first")
        refuse_changed(folder, run)
        kept = [folder / file for file in RECORD if (folder / file).is_file()]
        kept += sorted((folder / EDITS).glob("*/*.png")) if edits else []
        files[name] = {file.relative_to(folder).as_posix(): file for file in kept}
    listed = {
        name: {file: {"sha256": file_digest(path), "bytes": path.stat().st_size} for file, path in of.items()}
        for name, of in files.items()
    }
    contents = {"format": FORMAT, "semfacediff": __version__, "runs": listed}
    new = out.with_name(f".{out.name}.zip.new")
    try:
        with write_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(new, "w") as archive:
                archive.writestr(_member(SEAL), json.dumps(contents, indent=1) + "\n")
                for name, of in files.items():
                    for file, path in of.items():
                        with open(path, "rb") as source, archive.open(_member(f"{name}/{file}"), "w") as target:
                            shutil.copyfileobj(source, target)
            new.rename(out)
    finally:
        new.unlink(missing_ok=True)


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
    return info


def unseal(file: Path, folder: Path) -> list[str]:
    """Unpack ``file`` below ``folder``, which is empty; returns the names of the runs.

    Nothing is written before all names, kinds and sizes have been checked.

    Raises:
        UserError: no zip of this kind, a name outside the record, a link, too large, or a digest that does not match.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            listed = _listed(file, archive)
            for name, told in listed.items():
                with archive.open(name) as member:
                    _unpack(file, name, member, folder / name, told)
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror or e}); name a zip made by 'semfacediff export'") from e
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error) as e:
        if isinstance(e, UserError):
            raise
        raise UserError(f"{file}: damaged, or no zip of a record ({printable(str(e))[:80]}); copy it again") from e
    return list(dict.fromkeys(name.removesuffix("/run.json") for name in listed if name.endswith("/run.json")))


def _listed(file: Path, archive: zipfile.ZipFile) -> dict[str, dict]:
    """Member -> its line of the list of contents, after everything that the directory tells was checked."""
    members = archive.infolist()
    for info in members:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or info.is_dir():
            raise _refused(file, info.filename, "is a link or no file")
        if info.file_size > LARGEST:
            raise _refused(file, info.filename, f"has {info.file_size:,} bytes, at most {LARGEST:,} are allowed")
    if sum(info.file_size for info in members) > WHOLE:
        raise UserError(f"{file}: unpacks to more than {WHOLE:,} bytes; it was not unpacked, export without edits")
    names = [info.filename for info in members]
    if SEAL not in names:
        raise UserError(f"{file}: no {SEAL} in it; name a zip made by 'semfacediff export RUN --to zip'")
    contents = json.loads(archive.read(SEAL))
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        found = contents.get("format") if isinstance(contents, dict) else None
        raise UserError(f"{file}: format {found!r}, this version reads {FORMAT}; use the version that made it")
    listed = _flat(contents.get("runs"))
    if listed is None:
        raise UserError(f"{file}: {SEAL} is damaged; copy the zip again")
    for name in [*names, *listed]:
        if name != SEAL and not _belongs(name):
            raise _refused(file, name, "is no file of a record")
    if sorted(names) != sorted([SEAL, *listed]):
        odd = sorted({*names} ^ {SEAL, *listed}) or [n for n in names if names.count(n) > 1]
        raise _refused(file, odd[0], f"is not once in the zip and once in its {SEAL}")
    return listed


def _flat(runs: object) -> dict[str, dict] | None:
    """``run/file`` -> its digest and bytes; ``None``: not of that form."""
    if not isinstance(runs, dict) or not runs:
        return None
    flat: dict[str, dict] = {}
    for run, files in runs.items():
        if not isinstance(files, dict) or not {"run.json", "config.yaml"} <= files.keys():
            return None
        flat |= {f"{run}/{file}": told for file, told in files.items()}
    return flat if all(isinstance(t, dict) and {"sha256", "bytes"} <= t.keys() for t in flat.values()) else None


def _belongs(name: str) -> bool:
    """``RUN/FILE`` or ``SWEEP/RUN/FILE``, or an edit of one; no part leads out of the folder or is hidden."""
    parts = name.split("/")
    if any(not part or part.startswith(".") or "\\" in part or ":" in part or not part.isprintable() for part in parts):
        return False
    if len(parts) > 3 and parts[-3] == EDITS and parts[-1].endswith(".png"):
        parts = parts[:-3] + ["run.json"]
    return len(parts) in (2, 3) and parts[-1] in RECORD


def _unpack(file: Path, name: str, member: IO[bytes], target: Path, told: dict) -> None:
    digest, size = hashlib.sha256(), 0

    def chunks() -> Iterator[bytes]:
        nonlocal size
        while chunk := member.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    write_chunks(target, chunks())
    if (digest.hexdigest(), size) != (told["sha256"], told["bytes"]):
        raise _refused(file, name, f"has digest {digest.hexdigest()[:16]}, {SEAL} says {str(told['sha256'])[:16]}")


def _refused(file: Path, name: str, why: str) -> UserError:
    return UserError(f"{file}: '{printable(name)[:120]}' {why}; nothing was imported")

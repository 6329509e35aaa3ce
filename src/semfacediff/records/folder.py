"""A run's folder: opened once, continued after a kill, refused when it belongs to something else.

Layout (see docs/records.md): ``run.json``, ``config.yaml``, ``samples.jsonl`` while the run goes, ``samples.parquet``
and ``summary.csv`` at the end.
"""

import contextlib
import fcntl
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from semfacediff.errors import UserError
from semfacediff.records.facts import checked
from semfacediff.records.integrity import file_digests, refuse_changed
from semfacediff.records.legacy_metrics import complete_run
from semfacediff.records.rescoring import lacks_only_metrics
from semfacediff.records.writing import write_errors, write_text

SCHEMA_VERSION = 1
RUNNING, INCOMPLETE, DONE = "running", "incomplete", "done"
_HOLDER = ".holder"
_NAMED_BY_DIGEST = re.compile(r".+-[0-9a-f]{8}")


def differences(a: Any, b: Any, prefix: str = "") -> list[str]:
    """ "key was x, now y" for every leaf of two nested mappings that differs."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{prefix}{k}.")]
    return [] if a == b else [f"{prefix[:-1]} was {a!r}, now {b!r}"]


def beside_other_data(folder: Path, identity: dict) -> Path:
    """``folder``, or one beside it if it holds a run of the same configuration on other data.

    A default folder's name says nothing of the data, which the record knows by their digest; hence a second data set
    goes to ``<folder>-<digest of the data>``. A folder that the user named is never left for another one.
    """
    if _NAMED_BY_DIGEST.fullmatch(folder.name) is None or not (folder / "run.json").exists():
        return folder
    there, asked = read_run(folder)["identity"]["inputs"].get("data"), identity["inputs"]["data"]
    if there == asked:
        return folder
    beside = folder.with_name(f"{folder.name}-{asked[:8]}")
    print(f"{folder} holds the same configuration on other data; this run goes to {beside}", file=sys.stderr)
    return beside


@contextlib.contextmanager
def held(folder: Path, way_out: str) -> Iterator[None]:
    """Make ``folder`` and hold it for this process while the block lasts.

    Args:
        way_out: what to do where another process holds it, besides waiting.

    Raises:
        UserError: another process holds it (named), or the folder cannot be made.
    """
    lock = _opened(folder)
    try:
        _lock(lock, folder, way_out)
        write_text(folder / _HOLDER, f"{os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            (folder / _HOLDER).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _opened(folder: Path) -> int:
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)


def _lock(descriptor: int, folder: Path, way_out: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        holder = folder / _HOLDER
        who = f"process {holder.read_text()}" if holder.exists() else "another process"
        raise UserError(f"{who} is working in {folder}; wait for it, or {way_out}") from e


class RunFolder:
    """The record of one run. Use as a context manager: it holds the folder's lock until it is left.

    Args:
        path: the folder; made if absent.
        identity: what determines the results (scientific configuration, digests of data and weights). A folder
            begun with another identity is refused.
        header: further facts for ``run.json`` (task, command, seeds, ...); written when the run is begun.
        config_text: the resolved configuration, kept as ``config.yaml``.

    Raises:
        UserError: the folder cannot be written, belongs to another configuration, or another process works in it; when
            facts are added, that it was deleted.
    """

    def __init__(self, path: Path, identity: dict, header: dict, config_text: str):
        self.path = path
        self._lock = _opened(path)
        try:
            _lock(self._lock, path, "set hydra.run.dir=DIR")
            self.facts = self._existing(identity) or self._begun(identity, header)
            if not self.finished:
                self._taken(config_text)
        except BaseException:
            os.close(self._lock)  # a refused folder must not stay locked: the next job of a sweep may want it
            raise
        self._resumed_at = time.monotonic()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            (self.path / _HOLDER).unlink(missing_ok=True)
        os.close(self._lock)

    def _taken(self, config_text: str) -> None:
        """Say who holds the folder, and keep the configuration unless an earlier sitting did."""
        write_text(self.path / _HOLDER, str(os.getpid()))
        if not (self.path / "config.yaml").exists():
            write_text(self.path / "config.yaml", config_text)

    def _existing(self, identity: dict) -> dict | None:
        file = self.path / "run.json"
        if not file.exists():
            foreign = [n for n in ("samples.jsonl", "summary.csv", "config.yaml") if (self.path / n).exists()]
            if foreign:
                raise UserError(f"{self.path} holds {', '.join(foreign)} but no run.json; set hydra.run.dir=DIR")
            return None
        facts = read_run(self.path)
        if facts["status"] == DONE:
            refuse_changed(self.path, facts)
        if facts["status"] == RUNNING and facts.get("rescoring"):
            raise UserError(f"{self.path}: 'semfacediff rescore' was stopped while it wrote; repeat that command")
        asked = json.loads(json.dumps(identity))
        changed = differences(facts["identity"], asked)
        if changed:
            if said := lacks_only_metrics(self.path, facts["identity"], asked):
                raise UserError(said)
            more = f" (and {len(changed) - 4} more)" if len(changed) > 4 else ""
            raise UserError(
                f"{self.path} belongs to another configuration: {'; '.join(changed[:4])}{more}; "
                f"set hydra.run.dir=DIR for a new run, or repeat the old settings to continue this one"
            )
        return facts

    def _begun(self, identity: dict, header: dict) -> dict:
        facts = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.path.name,
            "status": RUNNING,
            **header,
            "identity": identity,
            "started": now(),
            "finished": None,
            "wall_time_s": 0.0,
        }
        self._save(facts)
        return facts

    def _save(self, facts: dict) -> None:
        if os.fstat(self._lock).st_nlink == 0:
            raise UserError(f"{self.path} was deleted while its run went on; repeat the command: the run starts over")
        write_run(self.path, facts)

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return self.facts["status"] == DONE

    def update(self, **facts: Any) -> None:
        """Change facts in ``run.json``; wall time of this and earlier sittings is added up."""
        self.facts |= facts
        self.facts["wall_time_s"] = round(self.facts["wall_time_s"] + time.monotonic() - self._resumed_at, 3)
        self._resumed_at = time.monotonic()
        self._save(self.facts)

    def close(self, status: str, **facts: Any) -> None:
        """Record the end of the run (``done`` or ``incomplete``), and the digests of what it wrote."""
        self.update(status=status, finished=now(), files=file_digests(self.path), **facts)


def now() -> str:
    """The time of day as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_run(path: Path, facts: dict) -> None:
    """Write ``run.json`` of a run's folder."""
    write_text(path / "run.json", json.dumps(facts, indent=1) + "\n")


def read_config(path: Path) -> dict:
    """``config.yaml`` of a run's folder.

    Raises:
        UserError: absent or damaged.
    """
    file = path / "config.yaml"
    try:
        plain = yaml.safe_load(file.read_text("utf-8"))
        if not isinstance(plain, dict):
            raise TypeError
        return plain
    except (OSError, ValueError, TypeError, yaml.YAMLError, RecursionError) as e:
        raise UserError(f"{file}: not a run's configuration ({type(e).__name__}); copy it again") from e


def read_run(path: Path) -> dict:
    """``run.json`` of a run's folder; a key that it lacks raises a :class:`UserError` too.

    Raises:
        UserError: absent, damaged (a field of another type is named), or of another schema version.
    """
    file = path / "run.json"
    try:
        facts = json.loads(file.read_text("utf-8"))
        version, _, _ = (facts[key] for key in ("schema_version", "status", "identity"))
        if version == SCHEMA_VERSION:
            return checked(complete_run(facts), file)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(f"{file}: not a run's record ({type(e).__name__}); name the folder of a run") from e
    raise UserError(f"{file}: schema version {version}, this program reads {SCHEMA_VERSION}; use a matching version")

"""Whether a record is as its run left it."""

import hashlib
import json
from pathlib import Path

from semfacediff.errors import UserError

VALIDATION = "validation.parquet"
"""Counts of every validation photo at the best epoch of a parser's training."""
FILES = (
    "summary.csv",
    "summary_by_kind.csv",
    "tasks.csv",
    "samples.jsonl",
    "samples.parquet",
    "leakage.csv",
    "confusion.csv",
    "history.csv",
    VALIDATION,
)
"""What numbers are read from; ``run.json`` keeps the first 16 hex digits of their SHA-256 under ``files``."""
_DIGITS = 16


def file_digests(folder: Path) -> dict[str, str]:
    """Name -> digest of those of :data:`FILES` that are there."""
    there = (folder / name for name in FILES)
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest()[:_DIGITS] for f in there if f.is_file()}


def refuse_changed(folder: Path, run: dict) -> None:
    """Reject a record whose numbers were edited by hand.

    Args:
        run: its ``run.json``. Records of earlier versions hold no digests of files; their configuration has one.

    Raises:
        UserError: a digest does not fit; the sentence holds both.
    """
    kept, found = run.get("files", {}), file_digests(folder)
    wrong = [(name, kept[name], digest) for name, digest in found.items() if kept.get(name, digest) != digest]
    if "config_digest" in run and "config" in run["identity"]:
        plain = json.dumps(run["identity"]["config"], sort_keys=True, separators=(",", ":"))
        now = hashlib.sha256(plain.encode()).hexdigest()
        wrong += [("identity.config", run["config_digest"][:_DIGITS], now[:_DIGITS])] * (now != run["config_digest"])
    if wrong:
        said = "; ".join(f"{name} has digest {now}, the run recorded {then}" for name, then, now in wrong)
        raise UserError(f"{folder}: changed after the run ended ({said}); restore it, or repeat its command elsewhere")

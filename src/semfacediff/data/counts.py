"""Pixel counts that are kept in a file, so that the same data are counted once."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/semfacediff``, by default ``~/.cache/semfacediff``: what can be made again at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semfacediff"


def cached_counts(folder: Path, key: str, count: Callable[[], Tensor]) -> Tensor:
    """int64 ``[C]``: what ``count`` gave for ``key`` when it was last asked, else what it gives now.

    A file that is damaged, or of another key, is made anew. Several processes may ask at once: each writes a whole file
    under a name of its own and then renames it. Where none can be written, a line on stderr says so.

    Args:
        folder: where the file lies; made if it is missing.
        key: everything that the counts depend on: the data's digest, and how many of which batches are counted.
    """
    file = folder / f"pixel_counts_{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_bytes())
        if kept["key"] == key:
            return torch.tensor([int(n) for n in kept["pixels"]], dtype=torch.int64)
    counts = count()
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({"key": key, "pixels": counts.tolist()}))
        os.replace(new, file)
    except OSError as e:
        with contextlib.suppress(OSError):
            new.unlink()
        print(f"pixel counts are not kept for the next run: cannot write {file} ({e.strerror or e})", file=sys.stderr)
    return counts

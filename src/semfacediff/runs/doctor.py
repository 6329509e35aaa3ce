"""``semfacediff doctor``: what this machine has, and what each command would need. Fetches and changes nothing."""

import json
import os
import shutil
import sys
from pathlib import Path

import torch

from semfacediff.metrics.weights import CLIP_MODEL, PUBLIC, PublicWeights, cached, located, shown
from semfacediff.records.environment import hardware, package_versions
from semfacediff.weight_files import file_digest

_HASHED_BYTES = 1 << 30
"""Larger files than any public one are not read; the answer must come at once."""

COMMANDS = (
    ("make demo", (), "nothing: drawn faces, columns of absent weights stay empty"),
    ("train_parser.py", (), "data (data.root or SEMFACEDIFF_DATA), or data=toy"),
    ("evaluate.py task=parsing", (), "data, parser.checkpoint"),
    ("evaluate.py metrics=no_weights", (), "data, a parser, an editor"),
    ("evaluate.py metrics=full", PUBLIC, "data, a parser, an editor"),
    ("semfacediff tables", (), "records in results/runs"),
)


def doctor(root: str | None, as_json: bool) -> int:
    """Print what is there; 0 whatever is missing, for an incomplete machine is no failure.

    Args:
        root: ``weights.root`` of the runs that are planned.
    """
    found = examined(root)
    print(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))
    return 0


def examined(root: str | None) -> dict:
    """Facts for a person or a program; sizes in bytes, memory in MiB."""
    data = os.environ.get("SEMFACEDIFF_DATA")
    weights = {w.key: _weights(w, root) for w in PUBLIC}
    return {
        "hardware": hardware() | {"memory_mib": _memory_mib(), "free_disk_mib": shutil.disk_usage(".").free >> 20},
        "devices": _devices(),
        "packages": package_versions(),
        "data": {"SEMFACEDIFF_DATA": data, "there": bool(data) and Path(data).expanduser().is_dir()},
        "weights": weights,
        "commands": {
            command: {
                "inputs": inputs,
                "missing_weights": [w.key for w in needed if weights[w.key]["state"] == "missing"],
                "other_weights": [w.key for w in needed if weights[w.key]["state"] == "another file"],
            }
            for command, needed, inputs in COMMANDS
        },
    }


def _weights(public: PublicWeights, root: str | None) -> dict:
    """One public file: ``state`` is ``there``, ``another file`` (of that name), ``unread`` or ``missing``."""
    path = located(public, root)
    place = Path(root).expanduser() / public.file if root else cached(public)
    wanted = {"file": public.file, "size": public.size, "sha256": public.sha256_prefix, "url": public.url}
    facts = {**wanted, "columns": list(public.columns), "place": str(path or place), "found_size": None, "digest": None}
    if path is None:
        return facts | {"state": "missing", "fetch": f"curl -L --create-dirs -o '{place}' '{public.url}'"}
    facts["found_size"] = path.stat().st_size
    if facts["found_size"] > _HASHED_BYTES or not os.access(path, os.R_OK):
        return facts | {"state": "unread", "fetch": None}
    facts["digest"] = file_digest(path)
    same = facts["digest"].startswith(public.sha256_prefix)
    return facts | {"state": "there" if same else "another file", "fetch": None}


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (ValueError, OSError):
        return None


def _devices() -> list[dict]:
    """Accelerators and the CPU, best first: what ``runtime.device=auto`` chooses from."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    found = [
        {"device": f"cuda:{i}", "name": p.name, "memory_mib": p.total_memory >> 20}
        for i in cuda
        for p in [torch.cuda.get_device_properties(i)]
    ]
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "memory_mib": None})
    return [*found, {"device": "cpu", "name": f"{os.cpu_count()} cores", "memory_mib": _memory_mib()}]


def _lines(found: dict) -> list[str]:
    machine = found["hardware"]
    lines = [
        f"Python {machine['python']} ({sys.executable}), {machine['system']} {machine['machine']}",
        f"free disk here: {machine['free_disk_mib'] / 1024:.1f} GiB",
        "devices (runtime.device=auto takes the first):",
        *(f"  {d['device']}: {d['name']}, {_gib(d['memory_mib'])}" for d in found["devices"]),
        "packages: " + ", ".join(f"{name} {version}" for name, version in found["packages"].items()),
        f"data: SEMFACEDIFF_DATA={found['data']['SEMFACEDIFF_DATA'] or '(not set)'}"
        + ("" if found["data"]["there"] or not found["data"]["SEMFACEDIFF_DATA"] else " (no such folder)"),
        "weights of the metrics:",
    ]
    for key, w in found["weights"].items():
        lines += _about(key, w)
    lines.append("what each command would need:")
    for command, needs in found["commands"].items():
        missing = needs["missing_weights"]
        more = f"; missing weights: {', '.join(missing)} (or metrics.on_missing=skip)" if missing else ""
        lines.append(f"  {command}: {needs['inputs']}{more}")
    return lines


def _about(key: str, w: dict) -> list[str]:
    place = shown(Path(w["place"]))
    columns = ", ".join(w["columns"])
    model = f", metrics.clip.model={CLIP_MODEL}" if key == "clip" else ""
    wanted = f"{w['file']}, {w['size']:,} bytes, SHA-256 {w['sha256'][:8]}..."
    if w["state"] == "missing":
        ways = [f"    place it there, or set weights.{key}=FILE or weights.root=DIR; to fetch it:", f"    {w['fetch']}"]
        return [f"  {key} ({columns}{model}): missing; {wanted}, expected at {place}", *ways]
    if w["state"] == "there":
        return [f"  {key} ({columns}{model}): {place}, the public file ({w['digest'][:8]}...)"]
    what = f"digest {w['digest'][:8]}..." if w["digest"] else "not read"
    return [
        f"  {key} ({columns}{model}): {place}, {w['found_size']:,} bytes, {what}: not the public one ({wanted}); "
        f"runs with it are not comparable"
    ]


def _gib(mib: int | None) -> str:
    return "memory unknown" if mib is None else f"{mib / 1024:.1f} GiB"

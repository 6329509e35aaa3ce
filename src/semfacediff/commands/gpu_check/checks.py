"""``semfacediff gpu-check``: the pipeline at real sizes on an accelerator, with random weights.

Each row passes or fails by its results (and at real sizes by its speed) compared with a plain implementation.
"""

import gc
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from semfacediff import config
from semfacediff.commands.gpu_check import parsing, scoring, sdxl, several, synthesis
from semfacediff.commands.gpu_check.rows import FAIL, TOY, Row, Sizes
from semfacediff.engine.devices import choose_device
from semfacediff.errors import UserError
from semfacediff.records.environment import code_version, hardware, package_versions
from semfacediff.records.writing import write_errors, write_text

CHECKS = {
    "parser": parsing.training,
    "loader": parsing.loading,
    "metrics": scoring.metrics,
    "inception": scoring.inception,
    "sca_dm": synthesis.training,
    "sdxl": sdxl.edits,
    "several": several.several,
}
"""Name -> ``check(sizes, device, folder)``, which yields its rows."""
_HEAD = f"{'':8} {'rate':>9} {'':9} {'times':>6} {'peak MiB':>9}  check"


def gpu_check(folder: Path, device: str = "auto", toy: bool = False, only: Sequence[str] = ()) -> int:
    """Run the checks, print a line each and write ``folder/gpu_check.json``; returns 1 if one failed.

    Args:
        folder: for the record and SDXL with random weights (7 GB; kept for the next time).
        device: as ``runtime.device``; on MPS memory is not measured.
        toy: tiny networks on the CPU, to test that everything runs.
        only: of :data:`CHECKS`; all by default.

    Raises:
        UserError: there is no accelerator, or ``folder`` cannot be written.
    """
    on = choose_device(config.checked(config.DeviceConfig, {"device": "cpu" if toy else device}))
    if on.type == "cpu" and not toy:
        raise UserError("gpu-check needs an accelerator, and this machine has none; --toy runs it on the CPU")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sizes, start, rows = TOY if toy else Sizes(), time.perf_counter(), []
    print(_HEAD, flush=True)
    for name in only or CHECKS:
        for row in _rows(name, sizes, on, folder):
            print(_line(row), flush=True)
            rows.append(row)
    failed = [row.name for row in rows if row.status == FAIL]
    facts = {
        "device": str(on),
        "sizes": asdict(sizes),
        "seconds": round(time.perf_counter() - start, 1),
        "code": code_version(config.repository()),
        "hardware": hardware(),
        "packages": package_versions(),
        "rows": [asdict(row) for row in rows],
    }
    write_text(folder / "gpu_check.json", json.dumps(facts, indent=1) + "\n")
    print(f"{len(rows) - len(failed)} of {len(rows)} without failure in {facts['seconds']} s; {folder}/gpu_check.json")
    return 1 if failed else 0


def _rows(name: str, sizes: Sizes, on: torch.device, folder: Path) -> Iterator[Row]:
    """Rows of one check; an exception becomes a failed row, and the other checks continue."""
    try:
        yield from CHECKS[name](sizes, on, folder)
    except Exception as e:  # an operation missing on a device must not hide the other results
        yield Row(name, FAIL, note=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
    gc.collect()
    if on.type == "cuda":
        torch.cuda.empty_cache()


def _line(row: Row) -> str:
    rate = "" if row.rate is None else f"{row.rate:9.2f}"
    ratio = "" if row.ratio is None else f"{row.ratio:6.2f}"
    peak = "" if row.peak_mib is None else f"{row.peak_mib:9.0f}"
    text = row.name + (f": {row.note}" if row.note else "")
    return f"{row.status:8} {rate:>9} {row.unit:9} {ratio:>6} {peak:>9}  {text}"

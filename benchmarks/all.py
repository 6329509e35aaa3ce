"""Every comparison with a plain way or a bound, in one run: prints them, writes them with the facts of the machine.

    python benchmarks/all.py [--out results/benchmarks.json] [--only editing scoring ...] [--quick]

`make bench` runs it; on two cores that do nothing else it takes about ten minutes. --quick makes everything small, to
see that it runs: its ratios mean nothing, and it writes only where --out says.
"""

import argparse
import importlib
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

from comparing import HEAD, Comparison, line

from semfacediff.records.environment import hardware, package_versions

OUT = Path(__file__).resolve().parents[1] / "results" / "benchmarks.json"
MODULES = ("scoring", "fid", "parser_speed", "sca_dm", "report", "editing", "prepare", "training_input")
"""Each has ``comparisons()``. The last two let OpenCV, and what is imported after them, have one thread."""
QUICK = {
    "scoring": {"photos": 2, "size": 64, "turns": 1},
    "fid": {"photos": 1, "attributes": 2, "size": 64, "rows": 64},
    "parser_speed": {"parsers": ("face_lite",), "size": 64, "batches": (1,), "repeats": 1},
    "sca_dm": {"preset": "test", "turns": 1},
    "report": {"photos": 20, "size": 64, "turns": 1},
    "editing": {"photos": 1, "size": 128, "turns": 1},
    "prepare": {"photos": 1},
    "training_input": {"photos": 8, "size": 64, "workers": 0},
}


def made(modules: tuple[str, ...], quick: bool) -> list[Comparison]:
    """All comparisons, each printed as soon as it is there."""
    print(HEAD, flush=True)
    found = []
    for name in (m for m in MODULES if m in modules):
        for c in importlib.import_module(name).comparisons(**(QUICK[name] if quick else {})):
            print(line(c), flush=True)
            found.append(c)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, help="a JSON file; by default results/benchmarks.json")
    arguments.add_argument("--only", nargs="+", choices=MODULES, default=MODULES)
    arguments.add_argument("--quick", action="store_true")
    a = arguments.parse_args()
    before, start = os.getloadavg()[0], time.time()
    machine = hardware()  # before a benchmark sets threads for itself
    found = made(tuple(a.only), a.quick)
    out = a.out or (None if a.quick else OUT)
    short = [c.name for c in found if c.reached is False]
    seconds = round(time.time() - start)
    print(f"{len(found)} comparisons in {seconds} s; short of what is wanted (*): {', '.join(short) or 'none'}")
    if out is not None:
        load = {"load_before": round(before, 2), "load_after": round(os.getloadavg()[0], 2)}
        machine = machine | load | {"packages": package_versions()}
        facts = {"machine": machine, "seconds": seconds, "comparisons": [c.facts() for c in found]}
        out.write_text(json.dumps(facts, indent=1) + "\n")
        print(f"written: {out}")


if __name__ == "__main__":
    main()

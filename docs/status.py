"""Make docs/status.md of docs/status.yaml and the records: ``python docs/status.py [--check]``."""

import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from semfacediff.places import repository, results
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.standing import superseded
from semfacediff.records.writing import write_text
from semfacediff.tables.definitions import definitions

HERE = Path(__file__).parent
PAGE, ENTRIES = HERE / "status.md", HERE / "status.yaml"
HEAD = """# Status

What is built, what is equal to its reference, and what is reproduced, for every table and model of the founding
documents. This page is generated from `docs/status.yaml` and the records in `results/runs` by
`python docs/status.py`; `--check` fails where the two differ.

- **built**: the code or preset is there and runs in the tests, at toy size where weights or data are not at hand.
- **equal to the reference**: the named tests hold it to outputs of the original code or library.
- **reproduced**: a finished, comparable record of the whole command is in `results/runs`; whether its numbers are the
  published ones is read off the ranges in [expected.md](expected.md).

{verdict}

Minutes and GiB are estimates for one accelerator, not measurements: an A100-class device, from counted operations
(SDXL: 7 s an edit at 1024 px, `benchmarks/sdxl_memory.py` for memory) or, for the course report and SegFace, from the
authors' own times and devices. Fetching weights and data is not included. Smaller records have fewer photos or a
smaller training budget than the published number.
"""
COLUMNS = ("what", "built", "equal to the reference", "reproduced", "to fill it", "GPU minutes", "GiB")


def page(root: Path, entries: list[Mapping]) -> str:
    """The page of ``entries`` (contents of status.yaml) and the records of the checkout ``root``."""
    known, parts, found, n = definitions(root), [], 0, 0
    for document in entries:
        parts += [f"## {document['document']}", "", _row(COLUMNS), _row(["---"] * 5 + ["---:"] * 2)]
        for entry in document["entries"]:
            finished = [run for run in entry["runs"] if _counts(results(root) / "runs" / run)]
            whole, n = len(finished) == len(entry["runs"]), n + 1
            found += whole
            command = entry.get("command") or known[entry["table"]].command
            cells = [entry["what"], _files(root, entry["built"]), _files(root, entry["equal"])]
            cells += [_runs(finished) if whole else _not_yet(root, entry, finished), f"`{command}`"]
            parts.append(_row([*cells, f"{entry['minutes']:,}", f"{entry['gib']}"]))
        parts.append("")
    verdict = f"Reproduced today: {found} of {n}." if found else f"Reproduced today: none of {n}."
    return "\n".join([HEAD.format(verdict=verdict), *parts])


def _counts(folder: Path) -> bool:
    """Whether a record is there that a table would take."""
    if not (folder / "run.json").is_file():
        return False
    run = read_run(folder)
    return run["status"] == DONE and not run["not_comparable"] and superseded(run) is None


def _not_yet(root: Path, entry: Mapping, finished: list[str]) -> str:
    smaller = [run for run in entry.get("smaller", ()) if (results(root) / "runs" / run / "run.json").is_file()]
    said = [f"{len(finished)} of {len(entry['runs'])} records: {_runs(finished)}"] if finished else []
    return "; ".join([*said, f"no (smaller: {_runs(smaller)})" if smaller else "no"])


def _runs(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _files(root: Path, files: list[str]) -> str:
    """Links to files that are there; a :class:`FileNotFoundError` names one that is not."""
    named = [file.partition(" ")[::2] for file in files]
    for file, _ in named:
        if not (root / file).is_file():
            raise FileNotFoundError(f"docs/status.yaml names {file}, which is not there")
    each = (f"[{Path(file).name}](../{file})" + f" ({words})" * bool(words) for file, words in named)
    return ", ".join(each) or "no reference output"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def main(words: list[str]) -> int:
    """Write the page; with ``--check`` compare it and return 1 if it is stale."""
    text = page(repository(), yaml.safe_load(ENTRIES.read_text("utf-8")))
    if words == ["--check"]:
        stale = not PAGE.exists() or PAGE.read_text("utf-8") != text
        if stale:
            print("error: docs/status.md is stale; run: python docs/status.py", file=sys.stderr)
        return int(stale)
    write_text(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

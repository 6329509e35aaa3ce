"""How far one edit travels through the code: files passed from ``evaluate.py`` to its line in ``samples.jsonl``.

``python benchmarks/edit_walk.py`` evaluates one drawn face with one region under a profiler and prints the files of
the package that were entered (drawing of toy faces excluded), and how often the row of the edit changed file between
the editor's return and its line in the log.
"""

import importlib
import inspect
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "semfacediff"
WORDS = (
    "editor=recolor parser=ground_truth attributes=[hair] data.n=1 metrics=no_weights strips=0 tracking=none "
    "runtime.device=cpu runtime.workers=0 runtime.overlap=false"
).split()
ROW_FILES = ("tasks/editing", "editing/apply.py", "records/samples.py")


def main() -> int:
    files: dict[str, None] = {}
    row: list[str] = []
    state = {"edited": False, "written": False}

    def watch(frame, event, _argument):
        code = frame.f_code
        path = Path(code.co_filename)
        if event not in ("call", "return") or PACKAGE not in path.parents or state["written"]:
            return
        name = str(path.relative_to(PACKAGE))
        if not code.co_flags & inspect.CO_OPTIMIZED or code.co_name.startswith("<") or name.startswith("data/toy"):
            return
        if event == "call":
            files.setdefault(name)
            if state["edited"] and name.startswith(ROW_FILES) and row[-1:] != [name]:
                row.append(name)
            state["written"] = name == "records/samples.py" and code.co_name == "append"
        elif name.startswith("editing/recolor") and code.co_name == "edit":
            state["edited"] = True

    sys.path.insert(0, str(ROOT / "src"))
    from semfacediff.scripts import start

    for module in ("tasks.editing.evaluate", "editing.recolor", "records.ledger", "records.tracking"):
        importlib.import_module(f"semfacediff.{module}")  # beforehand: loading under a profiler takes minutes

    with tempfile.TemporaryDirectory() as folder:
        threading.setprofile(watch)
        sys.setprofile(watch)
        try:
            start("evaluate", [*WORDS, f"hydra.run.dir={folder}/run"], "python evaluate.py")
        except SystemExit as e:
            if e.code:
                return int(e.code)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    print(*files, sep="\n")
    print(f"{len(files)} files from evaluate.py to the line in samples.jsonl")
    print(f"{max(len(row) - 1, 0)} changes of file between edited and written: {' -> '.join(row)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

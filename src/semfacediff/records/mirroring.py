"""The process that copies a run's record to Weights & Biases, while the run goes or afterwards.

Run as ``python -m semfacediff.records.mirroring FOLDER OPTIONS``. What it sends is made from the files of the record:

    history.csv      an epoch a step
    samples.jsonl    running means of the scores, at most 200 points a run, a row a step
    summary.csv      as a table, and its numbers as ``<row>/<column>``
    figures/         if asked for

A record always has the same W&B id. ``wandb/sent.json`` beside it says what was sent where, and so what is new. W&B
cannot continue offline runs: each offline copy is whole, so that the newest is complete and older ones may be deleted.
"""

import csv
import hashlib
import json
import math
import os
import queue
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import yaml

from semfacediff.config import WandbTracking
from semfacediff.records.folder import DONE
from semfacediff.records.writing import write_text

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

LOOK_S = 5.0
"""How long the mirror waits for news before it looks by itself."""
GIVE_UP_S = 600.0
"""How long it goes on after the run has ended, e.g. with an upload."""
INIT_TIMEOUT_S = 30.0
MAX_FIGURES = 12
POINTS = 200
NOTHING_LOST = "the run's own record does not depend on it"
SENT = Path("wandb") / "sent.json"
RUNNING_MEANS = ("lpips", "ssim", "iou", "clip", "psnr_outside", "seam", "latency_s", "miou", "pixel_accuracy")
_OFFLINE = "offline"
# Its crash reports would be a network call that nobody asked for; host name, paths and hardware stay here too.
_SETTINGS = {
    "silent": True,
    "console": "off",
    "symlink": False,
    "init_timeout": INIT_TIMEOUT_S,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def mirror(folder: Path, options: WandbTracking, news: Iterable[object] = ()) -> None:
    """Send the record in ``folder`` to W&B: its curves at each of ``news``, everything when there are no more."""
    import wandb

    facts = json.loads((folder / "run.json").read_text())
    chosen = mode(options.mode)
    run = wandb.init(
        id=wandb_id(facts),
        resume=None if chosen == _OFFLINE else "allow",
        project=options.project,
        entity=options.entity,
        group=options.group,
        tags=options.tags,
        name=facts["run_id"],
        job_type=facts["task"],
        mode=cast(Literal["online", "offline", "disabled", "shared"], chosen),  # W&B refuses what is none
        dir=str(folder),
        config=_configuration(folder, facts),
        settings=wandb.Settings(**_SETTINGS),
    )
    sent, means = 0, RunningMeans(folder / "samples.jsonl", int(facts.get("n_expected") or 0))
    for _ in news:
        sent = _send_history(run, folder / "history.csv", sent)
        _send_points(run, means.points())
    _send_history(run, folder / "history.csv", sent)
    _send_points(run, means.points(at_the_end=True))
    status = json.loads((folder / "run.json").read_text())["status"]
    state = _state(folder, options)
    if (folder / "summary.csv").exists():
        _send_summary(run, folder / "summary.csv")
    if options.images:
        run.log({f"figures/{png.stem}": wandb.Image(str(png)) for png in _figures(folder)})
    run.finish(exit_code=0 if status == DONE else 1)
    _remember(folder, options, state)


def mode(asked: str) -> str:
    """``asked``, where ``auto`` means ``WANDB_MODE`` if it is set, else online with ``WANDB_API_KEY``, else offline."""
    if asked != "auto":
        return asked
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else _OFFLINE)


def wandb_id(facts: Mapping) -> str:
    """The W&B id of a run, from its ``run.json``: 16 hex digits."""
    told = [facts.get(key) for key in ("run_id", "config_digest", "started")]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def is_new(folder: Path, options: WandbTracking) -> bool:
    """Whether the record holds something that was not yet sent to where ``options`` say."""
    return _sent(folder).get(_target(options)) != _state(folder, options)


def _target(options: WandbTracking) -> str:
    return "/".join([mode(options.mode), options.entity or "", options.project])


def _state(folder: Path, options: WandbTracking) -> str:
    """Digest of everything that would be sent."""
    files = ["config.yaml", "history.csv", "samples.jsonl", "summary.csv"]
    files += [str(png.relative_to(folder)) for png in _figures(folder)] if options.images else []
    digest = hashlib.sha256(json.dumps([options.group, options.tags]).encode())
    digest.update(json.loads((folder / "run.json").read_text())["status"].encode())
    for name in files:
        data = (folder / name).read_bytes() if (folder / name).exists() else b""
        digest.update(f"{name}:{len(data)}:".encode() + data)
    return digest.hexdigest()


def _sent(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / SENT).read_text())
    except (OSError, ValueError):
        return {}  # sent again, under the same id
    return found if isinstance(found, dict) else {}


def _remember(folder: Path, options: WandbTracking, state: str) -> None:
    if mode(options.mode) != "disabled":
        write_text(folder / SENT, json.dumps(_sent(folder) | {_target(options): state}, indent=1) + "\n")


def _figures(folder: Path) -> list[Path]:
    return sorted((folder / "figures").glob("*.png"))[:MAX_FIGURES]


def _configuration(folder: Path, facts: dict) -> dict:
    """The resolved configuration, and what tells this record from others."""
    record = {k: facts.get(k) for k in ("run_id", "config_digest", "code", "packages", "not_comparable")}
    return {**yaml.safe_load((folder / "config.yaml").read_text()), "record": record}


def _send_history(run: "Run", file: Path, sent: int) -> int:
    """Log the rows after the first ``sent``, each at its epoch or step; returns how many are sent now."""
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []
    for row in rows[sent:]:
        values = {k: number for k, text in row.items() if (number := _number(text)) is not None}
        run.log(values, step=int(values["epoch"] if "epoch" in values else values["step"]))
    return len(rows)


class RunningMeans:
    """Means over the rows of ``samples.jsonl`` so far, as the file grows.

    Args:
        file: the file; it need not be there yet.
        n_expected: rows that it will have; decides how far points are apart.
    """

    def __init__(self, file: Path, n_expected: int):
        self.file, self.stride = file, max(1, n_expected // POINTS)
        self._last = 0  # row of the last point
        self._forget()

    def _forget(self) -> None:
        self._identity: int | None = None
        self._offset, self._n, self._failed = 0, 0, 0
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])

    def points(self, at_the_end: bool = False) -> Iterator[tuple[int, dict[str, float]]]:
        """(rows, name -> mean) every few rows of what is new, and ``at_the_end`` of all there is."""
        rewritten = self._rewritten()
        if rewritten:  # a run that begins or ends puts the file in order: the same rows, not in the order of before
            self._forget()
        for row in self._new_rows():
            self._add(row)
            if self._n % self.stride == 0 and self._n > self._last and not rewritten:
                yield self._point()
        if (at_the_end or rewritten) and self._n > self._last:
            yield self._point()

    def _rewritten(self) -> bool:
        if self._identity is None or not self.file.exists():
            return False
        now = self.file.stat()
        return now.st_ino != self._identity or now.st_size < self._offset

    def _new_rows(self) -> Iterator[dict]:
        if not self.file.exists():
            return
        with open(self.file, "rb") as f:
            self._identity = os.fstat(f.fileno()).st_ino
            f.seek(self._offset)
            for line in f:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._offset += len(line)
                yield json.loads(line)

    def _add(self, row: Mapping) -> None:
        self._n += 1
        self._failed += row.get("status") == "error"
        of = f"{row['attribute']}/" if "attribute" in row else ""
        for column in RUNNING_MEANS:
            value = row.get(column)
            if isinstance(value, int | float) and math.isfinite(value):
                sums = self._sums[f"running/{of}{column}"]
                sums[0] += 1
                sums[1] += value

    def _point(self) -> tuple[int, dict[str, float]]:
        self._last = self._n
        means = {name: total / n for name, (n, total) in self._sums.items()}
        return self._n, {"running/rows": self._n, "running/failed": self._failed, **means}


def _send_points(run: "Run", points: Iterable[tuple[int, dict[str, float]]]) -> None:
    for step, values in points:
        run.log(values, step=step)


def _send_summary(run: "Run", file: Path) -> None:
    """``summary.csv`` as a table, and its numbers as ``<row>/<column>``, e.g. ``hair/lpips_mean``."""
    import wandb

    columns, *rows = csv.reader(file.read_text().splitlines())
    values = [[row[0], *(_number(text) for text in row[1:])] for row in rows]
    run.log({"summary": wandb.Table(columns=columns, data=values)})
    scalars = {f"{row[0]}/{c}": v for row in values for c, v in zip(columns[1:], row[1:], strict=True)}
    run.summary.update({name: v for name, v in scalars.items() if v is not None})


def _number(text: str) -> float | None:
    """A cell as a finite number; ``None`` for an empty one and for words."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _arriving() -> Iterator[str]:
    """Lines of stdin, and an empty one whenever none came for a while.

    A thread reads them, so that the end of the run is noticed even while W&B hangs.
    """
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        last_resort = threading.Timer(GIVE_UP_S, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()

    def waited_for() -> str | None:
        try:
            return lines.get(timeout=LOOK_S)
        except queue.Empty:
            return ""

    threading.Thread(target=read, daemon=True).start()
    return iter(waited_for, None)


def _main(folder: str, options: str) -> None:
    complaints = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whatever W&B prints is no complaint of ours
    try:
        mirror(Path(folder), WandbTracking(**json.loads(options)), _arriving())
    except BaseException as e:  # SystemExit too; nothing of W&B may reach the run
        reason = " ".join(str(e).split())[:200] or "no reason given"
        os.write(complaints, f"W&B failed ({type(e).__name__}: {reason}); {NOTHING_LOST}".encode())
        os._exit(1)  # no second complaint from what it registered for the exit


if __name__ == "__main__":
    _main(*sys.argv[1:])
